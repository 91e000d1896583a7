"""Mixing of images, and the classifier's options for small sets."""

import importlib

import lightning
import pytest
import torch
from timm.layers import DropPath

from blemish.errors import OptionError
from blemish.methods.classification.classifier import Classifier, ClassifierOptions
from blemish.methods.classification.networks import Trunk
from blemish.methods.common.metric_losses import METRIC_LOSSES
from blemish.methods.common.mixup import cutmix, cutmix_pixels, mixup
from blemish.training.learn.options import check_options

IMAGES = torch.rand(6, 3, 20, 30)


def test_mixup_blends_two_images():
    torch.manual_seed(0)
    mixed, partner, share = mixup(IMAGES, 1.0)
    torch.testing.assert_close(mixed, share * IMAGES + (1 - share) * IMAGES[partner])
    assert sorted(partner.tolist()) == list(range(6))


def test_cutmix_takes_a_rectangle_of_that_area():
    for seed in range(20):
        torch.manual_seed(seed)
        before = IMAGES.clone()
        mixed, partner, share = cutmix(IMAGES, 1.0)
        assert torch.equal(IMAGES, before)
        i = next((i for i in range(6) if partner[i] != i), None)
        own, other = (mixed[i] == IMAGES[i]).all(dim=0), (mixed[i] == IMAGES[partner[i]]).all(dim=0)
        assert (own | other).all()
        assert own.float().mean().item() == pytest.approx(share, abs=1e-6)
        rows, columns = other.nonzero().T if other.any() else (torch.zeros(0), torch.zeros(0))
        if other.any():
            assert other.sum() == (rows.max() - rows.min() + 1) * (columns.max() - columns.min() + 1)


def test_masks_are_mixed_as_images_are():
    """Each image says itself which of its pixels are defective and which are known."""
    for seed in range(20):
        torch.manual_seed(seed)
        labels = torch.randint(0, 3, (4, 20, 30))
        known = torch.tensor([True, True, False, True])
        valid = torch.rand(4, 20, 30) > 0.3
        image = torch.stack([labels.float(), (valid & known[:, None, None]).float(), torch.rand(4, 20, 30)], dim=1)
        batch = {"image": image, "mask": labels > 0, "mask_labels": labels, "valid": valid, "has_mask": known}
        mixed, partner, share = cutmix_pixels(batch, 1.0)
        assert torch.equal(mixed["image"][:, 0], mixed["mask_labels"].float())
        assert torch.equal(mixed["mask"], mixed["mask_labels"] > 0)
        counted = mixed["valid"] & mixed["has_mask"][:, None, None]
        assert torch.equal(mixed["image"][:, 1] > 0, counted)
        own = mixed["image"][:, 2] == image[:, 2]
        for i in (partner != torch.arange(4)).nonzero().ravel().tolist():
            assert own[i].float().mean().item() == pytest.approx(share, abs=1e-6)
        assert torch.equal(batch["valid"], valid)


def test_preset_gives_way_to_what_is_said():
    few = check_options(ClassifierOptions, {"preset": "few", "dropout": 0.1}, "classifier")
    assert few.dropout == 0.1
    assert few.mixup == ClassifierOptions.few["mixup"]
    assert check_options(ClassifierOptions, few.model_dump(mode="json"), "classifier") == few
    assert ClassifierOptions().dropout != ClassifierOptions.few["dropout"]
    with pytest.raises(OptionError, match="preset"):
        check_options(ClassifierOptions, {"preset": "many"}, "classifier")


@pytest.mark.parametrize("name", METRIC_LOSSES)
def test_embedding_losses_teach_the_network(name, monkeypatch):
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


def test_mixing_takes_turns_where_an_epoch_has_one_batch(monkeypatch):
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


def test_images_of_no_class_alone_are_passed_over():
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
