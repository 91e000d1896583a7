"""Options for small sets: preset, embedding losses, mixing, stochastic depth."""

import importlib

import lightning
import pytest
import torch
from timm.layers import DropPath

from blemish.errors import OptionError
from blemish.methods.classification.classifier import Classifier, ClassifierOptions
from blemish.methods.classification.networks import Trunk
from blemish.methods.common.metric_losses import METRIC_LOSSES
from blemish.methods.common.mixup import cutmix, mixup
from blemish.training.learn.options import check_options


def test_given_options_override_the_preset():
    few = check_options(ClassifierOptions, {"preset": "few", "dropout": 0.1}, "classifier")
    assert few.dropout == 0.1
    assert few.mixup == ClassifierOptions.few["mixup"]
    assert check_options(ClassifierOptions, few.model_dump(mode="json"), "classifier") == few
    assert ClassifierOptions().dropout != ClassifierOptions.few["dropout"]
    with pytest.raises(OptionError, match="preset"):
        check_options(ClassifierOptions, {"preset": "many"}, "classifier")


@pytest.mark.parametrize("name", METRIC_LOSSES)
def test_embedding_losses_train_the_network(name, monkeypatch):
    torch.manual_seed(0)
    options = ClassifierOptions(backbone="compact", image_size=32, embedding_loss=name, mixup=0.4, cutmix=0.4)
    method = Classifier(options, ("good", "a", "b"))
    logged = {}
    method.log = lambda name, value, **rest: logged.update({name: float(value)})
    batch = {"image": torch.rand(8, 3, 32, 32), "label": torch.tensor([0, 0, 0, 1, 1, 2, 2, -1])}
    losses = []
    for step in range(4):
        monkeypatch.setattr(Classifier, "global_step", step)
        losses.append(method.training_step(batch, step))
    assert all(torch.isfinite(loss) for loss in losses)
    assert "embedding_loss" in logged
    losses[0].backward()
    assert any(p.grad is not None and p.grad.abs().sum() > 0 for p in method.trunk.parameters())


def test_mixup_and_cutmix_alternate_over_steps(monkeypatch):
    module, mixed = importlib.import_module("blemish.methods.classification.classifier"), []
    for name, way in (("mixup", mixup), ("cutmix", cutmix)):
        monkeypatch.setattr(module, name, lambda *a, n=name, w=way: mixed.append((n, method.global_step)) or w(*a))
    options = ClassifierOptions(backbone="compact", image_size=32, mixup=0.4, cutmix=0.4)
    method = Classifier(options, ("good", "a"))
    batch = {"image": torch.rand(4, 3, 32, 32), "label": torch.tensor([0, 0, 1, 1])}
    trainer = lightning.Trainer(
        accelerator="cpu", max_epochs=5, logger=False, enable_checkpointing=False, enable_progress_bar=False,
        enable_model_summary=False,
    )  # fmt: skip
    trainer.fit(method, torch.utils.data.DataLoader([batch], batch_size=None))
    assert mixed == [("mixup", 1), ("cutmix", 3)]


def test_batches_without_known_classes_are_skipped():
    options = ClassifierOptions(backbone="compact", image_size=32, embedding_loss="triplet")
    method = Classifier(options, ("good", "a"))
    method.log = lambda *args, **rest: None
    batch = {"image": torch.rand(4, 3, 32, 32), "label": torch.full((4,), -1)}
    assert float(method.training_step(batch, 0)) == 0


@pytest.mark.parametrize(("backbone", "has_it"), [("test_resnet", True), ("dla46_c", False), ("compact", False)])
def test_stochastic_depth_where_the_network_has_it(backbone, has_it):
    rates = []
    for drop_path in (0.0, 0.3):
        trunk = Trunk(backbone, "random", 3, 32, drop_path)
        rates.append([m.drop_prob for m in trunk.modules() if isinstance(m, DropPath)])
    assert not any(rates[0])
    assert (max(rates[1], default=0) == pytest.approx(0.3)) if has_it else not rates[1]
