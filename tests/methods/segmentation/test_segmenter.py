"""The base of the segmentation methods: options, validation, embedding losses, dropout, CutMix."""

import importlib

import lightning
import pytest
import torch

from blemish.errors import OptionError
from blemish.methods.catalogue import method_class
from blemish.methods.common.mixup import cutmix_pixels
from blemish.methods.segmentation.networks import last_layer
from blemish.methods.segmentation.segmenter import SegmenterOptions
from blemish.methods.segmentation.unet import UNet
from blemish.training.learn.options import check_options

CLASSES = ("good", "pit", "scratch")


SMALL = {"image_size": 64, "backbone": "test_resnet", "weights": "random", "width": 4}


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"loss": {"dise": 1}}, "dise"),
        ({"loss": {"dice": 0}}, "above 0"),
        ({"loss": "hinge"}, "hinge"),
        ({"image_size": 100}, "multiple of 32"),
        ({"crop": 96}, "larger than image_size"),
    ],
)
def test_bad_options_are_one_line(options, says):
    with pytest.raises(OptionError, match=says) as caught:
        UNet(check_options(UNet.Options, {**SMALL, **options}, "unet"), CLASSES)
    assert "\n" not in str(caught.value)


def test_validation_uses_known_pixels_only():
    method = UNet(check_options(UNet.Options, SMALL, "unet"), CLASSES)
    method.log = lambda *args, **kwargs: None
    scores = torch.zeros(2, 2, 64, 64)
    scores[0, 1, 10:20, 15:25] = 0.6  # half of the defect, and as much outside it
    scores[1] = 0.9
    method.update_iou(scores, batch(has_mask=torch.tensor([True, False])))
    assert float(method.val_iou.compute()) == pytest.approx(50 / 150)


def test_a_loss_may_be_given_by_name():
    assert check_options(UNet.Options, {"loss": "tversky"}, "unet").loss == {"tversky": 1.0}


def batch(**changes):
    labels = torch.zeros(2, 64, 64, dtype=torch.int64)
    labels[0, 10:20, 10:20] = 2
    known = torch.ones(2, dtype=torch.bool)
    found = {
        "image": torch.rand(2, 3, 64, 64), "valid": torch.ones(2, 64, 64, dtype=torch.bool), "mask": labels > 0,
        "mask_labels": labels, "has_mask": known, "label": torch.tensor([2, 0]),
    }  # fmt: skip
    return {**found, **changes}


@pytest.mark.parametrize(("name", "loss"), [
    ("unet", "supervised-contrastive"), ("fcn", "prototype"), ("fpn", "centre"), ("deeplabv3plus", "triplet"),
    ("segan", "large-margin-cosine"), ("multitask", "centre"),
])  # fmt: skip
def test_embedding_losses_shape_the_features_before_the_last_layer(name, loss):
    torch.manual_seed(0)
    kind = method_class(name)
    weight = {"embedding_loss": loss, "embedding_weight": 10.0}
    method = kind(kind.Options(backbone="test_resnet", weights="random", image_size=64, **weight), CLASSES)
    labels = torch.zeros(4, 64, 64, dtype=torch.long)
    labels[0, :32], labels[1, :, 40:] = 1, 2
    batch = {"image": torch.rand(4, 3, 64, 64), "valid": torch.ones(4, 64, 64) > 0, "has_mask": torch.ones(4) > 0}
    batch |= {"mask_labels": labels, "mask": labels > 0}
    logits = method.network(batch["image"])
    features = method._features
    assert features.shape[1] == last_layer(method.network).in_channels
    with_it, without = method.pixel_loss(logits, batch), method.pixel_loss(logits, batch)  # the features are used up
    assert float(with_it.detach()) > float(without.detach())
    assert torch.autograd.grad(with_it - without, features)[0].abs().sum() > 0
    optimised = {id(p) for group in method.optimizer().param_groups for p in group["params"]}
    assert {id(p) for p in method.embedding_loss.parameters()} <= optimised
    with torch.no_grad():
        method.eval()(batch["image"])
    assert method._features is None


@pytest.mark.parametrize("name", ["unet", "fcn", "fpn", "deeplabv3plus", "segan", "multitask"])
def test_dropout_drops_whole_channels_in_training_only(name):
    kind, seen = method_class(name), []
    options = {"backbone": "test_resnet", "weights": "random", "image_size": 64}
    method = kind(kind.Options(**options, dropout=0.5), CLASSES)
    last_layer(method.network).register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    images = torch.rand(4, 3, 64, 64)
    torch.manual_seed(0)
    method.network(images)
    gone = (seen[-1] == 0).all(dim=(2, 3))
    assert 0.25 < gone.float().mean() < 0.75
    plain = kind(kind.Options(**options), CLASSES)
    plain.load_state_dict(method.state_dict())
    with torch.no_grad():
        torch.testing.assert_close(method.eval()(images), plain.eval()(images))


@pytest.mark.parametrize("name", ["unet", "segan", "multitask"])
def test_cutmix_in_every_other_step(name, monkeypatch):
    kind, shares = method_class(name), []
    options = kind.Options(backbone="test_resnet", weights="random", image_size=64, cutmix=1.0, average=0.9, steps=4)
    method = kind(options, CLASSES)
    module = importlib.import_module("blemish.methods.segmentation.segmenter")
    monkeypatch.setattr(module, "cutmix_pixels", lambda *a: shares.append(cutmix_pixels(*a)) or shares[-1])
    target = torch.zeros(4, 64, 64, dtype=torch.long)
    target[0, :32], target[1, :, 40:] = 1, 2
    batch = {"image": torch.rand(4, 3, 64, 64), "valid": torch.ones(4, 64, 64) > 0, "has_mask": torch.ones(4) > 0}
    batch |= {"mask_labels": target, "mask": target > 0, "label": torch.tensor([1, 2, 0, 0])}
    trainer = lightning.Trainer(
        accelerator="cpu", **method.trainer_options(), logger=False, enable_checkpointing=False,
        enable_progress_bar=False, enable_model_summary=False,
    )  # fmt: skip
    last = []
    trainer.callbacks.append(Watch(last))
    trainer.fit(method, torch.utils.data.DataLoader([batch] * 4, batch_size=None))
    assert len(shares) == 2
    weight = last_layer(method.network).weight
    assert not torch.equal(weight, last[-1])  # what ships is the average, not the last step's
    assert all(torch.isfinite(p).all() for p in method.parameters())


class Watch(lightning.Callback):
    """Keeps the last layer's weights after each step."""

    def __init__(self, kept: list) -> None:
        self.kept = kept

    def on_train_batch_end(self, trainer, method, *_) -> None:
        self.kept.append(last_layer(method.network).weight.detach().clone())


def test_given_options_override_the_preset_for_few_defects():
    few = check_options(method_class("unet").Options, {"preset": "few", "noise": 0.1}, "unet")
    assert (few.noise, few.embedding_loss, few.cutmix) == (
        0.1,
        "supervised-contrastive",
        SegmenterOptions.few["cutmix"],
    )
    assert check_options(method_class("unet").Options, few.model_dump(mode="json"), "unet") == few
