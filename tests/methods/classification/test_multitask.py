"""The multi-task network: gradients, weights of pixels and labels, errors."""

from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.ndimage import distance_transform_edt

from blemish.dataset.sample import Dataset, Sample
from blemish.errors import DataError
from blemish.methods.classification.multitask import MultiTask, depth
from blemish.training.learn.options import check_options

CLASSES = ("good", "pit", "scratch")


SMALL = {"image_size": 64, "backbone": "test_resnet", "weights": "random", "width": 4}


def dataset(**counts: int) -> Dataset:
    samples = [Sample(Path(f"{name}{i}"), label=name) for name, count in counts.items() for i in range(count)]
    return Dataset(tuple(samples), Path(), "csv")


@pytest.fixture
def multitask():
    torch.manual_seed(0)
    method = MultiTask(check_options(MultiTask.Options, {**SMALL, "positive_weight": 3.0}, "multitask"), CLASSES)
    method.log_dict = lambda *args, **kwargs: None
    return method


def batch(**changes):
    labels = torch.zeros(2, 64, 64, dtype=torch.int64)
    labels[0, 10:20, 10:20] = 2
    known = torch.ones(2, dtype=torch.bool)
    found = {
        "image": torch.rand(2, 3, 64, 64), "valid": torch.ones(2, 64, 64, dtype=torch.bool), "mask": labels > 0,
        "mask_labels": labels, "has_mask": known, "label": torch.tensor([2, 0]),
    }  # fmt: skip
    return {**found, **changes}


def test_label_loss_has_gradients_in_the_encoder_but_not_in_the_segmentation_head(multitask):
    _, image = multitask.forward_heads(batch()["image"])
    image.sum().backward()
    assert all(p.grad is None for p in multitask.network.decoder.parameters())
    assert all(p.grad is None for p in multitask.network.head.parameters())
    assert any(p.grad is not None and p.grad.any() for p in multitask.network.encoder.parameters())


def test_images_without_a_mask_contribute_their_label_only(multitask, monkeypatch):
    monkeypatch.setattr(MultiTask, "pixel_weight", lambda self, done: 0.5)
    unknown = torch.zeros(2, dtype=torch.bool)
    multitask.training_step(batch(has_mask=unknown), 0).backward()
    assert not any(p.grad.any() for p in multitask.network.decoder.parameters() if p.grad is not None)
    assert multitask.head.last.weight.grad.any()
    multitask.zero_grad()
    multitask.training_step(batch(label=torch.tensor([-1, -1])), 0).backward()
    assert not multitask.head.last.weight.grad.any()
    assert any(p.grad is not None and p.grad.any() for p in multitask.network.decoder.parameters())


@pytest.mark.parametrize(("least", "weights"), [(0.0, [1, 0.75, 0, 0]), (0.5, [1, 0.875, 0.5, 0.5])])
def test_weight_moves_from_pixels_to_labels(multitask, least, weights):
    multitask.options = multitask.options.model_copy(update={"min_pixel_weight": least})
    assert [multitask.pixel_weight(done) for done in (0, 0.25, 1, 1.5)] == weights


def test_deep_pixels_weigh_more(multitask):
    masks = torch.zeros(1, 40, 40, dtype=torch.bool)
    masks[0, 5:16, 5:16] = masks[0, 30, 3:30] = True
    found = depth(masks[0].numpy())
    expected = distance_transform_edt(masks[0].numpy())
    np.testing.assert_allclose(found[:20], expected[:20] / expected[:20].max(), rtol=1e-5)
    assert found[30, 10] == 1  # a line has no depth: all of it counts in full
    weights = multitask.border_weights(masks)[0]
    assert float(weights[10, 10]) == 3.0
    assert float(weights[5, 5]) == pytest.approx(0.5)
    assert float(weights[0, 0]) == 1.0


def test_multitask_without_any_mask_is_an_error(multitask):
    with pytest.raises(DataError, match="masks and labels"):
        multitask.before_training(dataset(good=3, pit=3, scratch=3))


def test_good_images_alone_are_an_error_before_the_training():
    method = MultiTask(check_options(MultiTask.Options, SMALL, "multitask"), ("good",))
    with pytest.raises(DataError, match="two classes in training or more, and there is 'good' alone"):
        method.before_training(dataset(good=8))
