"""What the segmentation methods are made of: networks, drawing and cutting of images, the critic, the two heads."""

import importlib
from collections import Counter
from pathlib import Path

import lightning
import numpy as np
import pytest
import torch
import torch.nn.functional as F
from scipy.ndimage import distance_transform_edt

from blemish.dataset.sample import Dataset, Sample
from blemish.errors import DataError, OptionError
from blemish.methods.catalogue import method_class
from blemish.methods.classification.multitask import MultiTask, depth
from blemish.methods.common.mixup import cutmix_pixels
from blemish.methods.segmentation.best_iou import BestIoU
from blemish.methods.segmentation.networks import Encoder, bilinear_doubling, deeplabv3plus, last_layer
from blemish.methods.segmentation.sampling import balanced_weights, random_crop, sample_pixels
from blemish.methods.segmentation.segan import Critic, SegAN, mask_images
from blemish.methods.segmentation.segmenter import SegmenterOptions
from blemish.methods.segmentation.unet import UNet
from blemish.training.learn.options import check_options

CLASSES = ("good", "pit", "scratch")
SMALL = {"image_size": 64, "backbone": "test_resnet", "weights": "random", "width": 4}


def dataset(**counts: int) -> Dataset:
    samples = [Sample(Path(f"{name}{i}"), label=name) for name, count in counts.items() for i in range(count)]
    return Dataset(tuple(samples), Path(), "csv")


@pytest.mark.parametrize(("balance", "pits"), [(0.0, 0.2), (0.5, 1 / 3), (1.0, 0.5)])
def test_defects_and_their_classes_are_drawn_as_asked(balance, pits):
    data = dataset(good=70, scratch=16, pit=4)
    weights = balanced_weights(data, 0.4, balance)
    shares = Counter()
    for sample, weight in zip(data.samples, weights, strict=True):
        shares[sample.label] += weight / sum(weights)
    assert shares["good"] == pytest.approx(0.6)
    assert shares["pit"] == pytest.approx(0.4 * pits)


def test_one_side_alone_is_drawn_from():
    assert all(balanced_weights(dataset(pit=3, scratch=5), 0.4, 0.5))


def test_crops_hold_a_defect_where_asked():
    torch.manual_seed(0)
    mask = torch.zeros(100, 120, dtype=torch.bool)
    mask[3, 117] = mask[90:95, 10:12] = True
    item = {
        "image": mask[None].float(), "mask": mask, "valid": ~mask, "mask_labels": mask.long(), "label": 1,
    }  # fmt: skip
    cuts = [random_crop(item, 32, 1.0) for _ in range(40)]
    assert all(cut["mask"].any() and cut["image"].shape == (1, 32, 32) for cut in cuts)
    assert all(torch.equal(cut["image"][0] > 0, cut["mask"]) for cut in cuts)
    assert all(torch.equal(cut["mask_labels"] > 0, ~cut["valid"]) for cut in cuts)
    assert {int(cut["mask"].sum()) == 1 for cut in cuts} == {True, False}  # either defect is found at times
    assert sum(bool(random_crop(item, 32, 0.0)["mask"].any()) for _ in range(40)) < 40


def test_doubling_begins_as_bilinear_enlargement():
    maps = torch.rand(2, 3, 7, 5)
    expected = F.interpolate(maps, scale_factor=2, mode="bilinear", align_corners=False)
    inner = (..., slice(2, -2), slice(2, -2))  # beyond the border the one sees zeros, the other the border
    torch.testing.assert_close(bilinear_doubling(3)(maps)[inner], expected[inner])


@pytest.mark.parametrize("name", ["test_resnet", "test_convnext"])
def test_encoders_give_a_map_at_every_stride(name):
    encoder = Encoder(name, "random", 1)
    maps = encoder(torch.rand(1, 1, 64, 64))
    assert [m.shape[-1] for m in maps] == [64, 32, 16, 8, 4, 2]
    assert [m.shape[1] for m in maps] == encoder.channels


def test_encoder_without_a_pyramid_is_refused():
    with pytest.raises(OptionError, match="stride"):
        Encoder("vit_tiny_patch16_224", "random", 3)


def test_dilated_encoder_ends_at_stride_16():
    encoder = Encoder("test_resnet", "random", 3, output_stride=16)
    assert encoder(torch.rand(1, 3, 64, 64))[-1].shape[-1] == 4
    assert deeplabv3plus(encoder, 2, 16)(torch.rand(2, 3, 64, 64)).shape == (2, 2, 64, 64)


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


def test_validation_counts_known_pixels_alone():
    method = UNet(check_options(UNet.Options, SMALL, "unet"), CLASSES)
    method.log = lambda *args, **kwargs: None
    scores = torch.zeros(2, 2, 64, 64)
    scores[0, 1, 10:20, 15:25] = 0.6  # half of the defect, and as much beside it
    scores[1] = 0.9
    method.update_iou(scores, batch(has_mask=torch.tensor([True, False])))
    assert float(method.val_iou.compute()) == pytest.approx(50 / 150)


def test_best_iou_equals_the_best_of_all_thresholds():
    rng = np.random.default_rng(0)
    truth = rng.random(500) > 0.7
    scores = (rng.integers(0, 100, 500) + 50 * truth) / 200 + 0.001
    expected = max((truth & (scores >= t)).sum() / (truth | (scores >= t)).sum() for t in np.unique(scores))
    found = BestIoU()
    for part in (slice(0, 200), slice(200, 500)):
        found.update(torch.tensor(scores[part], dtype=torch.float32), torch.tensor(truth[part]))
    assert float(found.compute()) == pytest.approx(expected)
    found.reset()
    assert float(found.compute()) == 0


def test_a_loss_may_be_given_by_name():
    assert check_options(UNet.Options, {"loss": "tversky"}, "unet").loss == {"tversky": 1.0}


def test_critic_sees_no_difference_between_equals_and_stays_clipped():
    torch.manual_seed(0)
    critic = Critic(2, 4)
    images, masks = torch.rand(2, 1, 32, 32), torch.rand(2, 2, 32, 32)
    a = mask_images(images, masks)
    assert torch.equal(a[:, 1:], images * masks[:, 1:])
    assert float(critic.distance(a, a.clone())) < 1e-6
    assert float(critic.distance(a, mask_images(images, 1 - masks))) > 0
    critic.clip(0.01)
    assert max(float(p.detach().abs().max()) for p in critic.parameters()) <= 0.01


def test_segan_ships_the_graph_of_its_unet():
    gan = SegAN(check_options(SegAN.Options, SMALL, "segan"), CLASSES)
    alone = UNet(check_options(UNet.Options, SMALL, "unet"), CLASSES)
    alone.network.load_state_dict(gan.network.state_dict())
    images = torch.rand(1, 3, 64, 64)
    with torch.inference_mode():
        torch.testing.assert_close(gan.eval()(images), alone.eval()(images))
    critics = {id(p) for p in gan.critic.parameters()}
    assert critics.isdisjoint(id(p) for p in gan.trained_parameters())


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


def test_labels_move_the_encoder_but_not_the_segmentation(multitask):
    _, image = multitask.forward_heads(batch()["image"])
    image.sum().backward()
    assert all(p.grad is None for p in multitask.network.decoder.parameters())
    assert all(p.grad is None for p in multitask.network.head.parameters())
    assert any(p.grad is not None and p.grad.any() for p in multitask.network.encoder.parameters())


def test_images_without_a_mask_learn_their_label_alone(multitask, monkeypatch):
    monkeypatch.setattr(MultiTask, "pixel_weight", lambda self, done: 0.5)
    unknown = torch.zeros(2, dtype=torch.bool)
    multitask.training_step(batch(has_mask=unknown), 0).backward()
    assert not any(p.grad.any() for p in multitask.network.decoder.parameters() if p.grad is not None)
    assert multitask.head.last.weight.grad.any()
    multitask.zero_grad()
    multitask.training_step(batch(label=torch.tensor([-1, -1])), 0).backward()
    assert not multitask.head.last.weight.grad.any()
    assert any(p.grad is not None and p.grad.any() for p in multitask.network.decoder.parameters())


def test_weight_moves_from_pixels_to_labels(multitask):
    assert [multitask.pixel_weight(done) for done in (0, 0.25, 1, 1.5)] == [1, 0.75, 0, 0]


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


def test_multitask_without_any_mask_says_so(multitask):
    with pytest.raises(DataError, match="masks and labels"):
        multitask.before_training(dataset(good=3, pit=3, scratch=3))


def test_places_are_drawn_of_each_class_and_where_they_count():
    torch.manual_seed(0)
    labels = torch.zeros(2, 32, 32, dtype=torch.long)
    labels[0, 8:16, 8:16] = 2
    keep = torch.ones(2, 32, 32, dtype=torch.bool)
    keep[1] = False
    grid = labels[:, ::4, ::4]
    features = torch.stack([grid.float(), torch.arange(128.0).view(2, 8, 8)], dim=1)  # the class, and the place
    vectors, classes = sample_pixels(features, labels, keep, 10)
    assert classes.bincount().tolist() == [10, 0, 4]
    assert torch.equal(vectors[:, 0].long(), classes)
    assert len(vectors[:, 1].unique()) == 14
    assert float(vectors[:, 1].max()) < 64  # the second image does not count
    assert len(sample_pixels(features, labels, ~keep & (labels < 0), 10)[1]) == 0


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
    learnt = {id(p) for group in method.optimizer().param_groups for p in group["params"]}
    assert {id(p) for p in method.embedding_loss.parameters()} <= learnt
    with torch.no_grad():
        method.eval()(batch["image"])
    assert method._features is None


@pytest.mark.parametrize("name", ["unet", "fcn", "fpn", "deeplabv3plus", "segan", "multitask"])
def test_dropout_leaves_whole_maps_out_while_learning_alone(name):
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
def test_every_other_step_learns_from_images_mixed_of_two(name, monkeypatch):
    kind, shares = method_class(name), []
    options = kind.Options(backbone="test_resnet", weights="random", image_size=64, cutmix=1.0, average=0.9, steps=4)
    method = kind(options, CLASSES)
    module = importlib.import_module("blemish.methods.segmentation.segmenter")
    monkeypatch.setattr(module, "cutmix_pixels", lambda *a: shares.append(cutmix_pixels(*a)) or shares[-1])
    truth = torch.zeros(4, 64, 64, dtype=torch.long)
    truth[0, :32], truth[1, :, 40:] = 1, 2
    batch = {"image": torch.rand(4, 3, 64, 64), "valid": torch.ones(4, 64, 64) > 0, "has_mask": torch.ones(4) > 0}
    batch |= {"mask_labels": truth, "mask": truth > 0, "label": torch.tensor([1, 2, 0, 0])}
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


def test_the_preset_for_few_defects_gives_way_to_what_is_said():
    few = check_options(method_class("unet").Options, {"preset": "few", "noise": 0.1}, "unet")
    assert (few.noise, few.embedding_loss, few.cutmix) == (
        0.1,
        "supervised-contrastive",
        SegmenterOptions.few["cutmix"],
    )
    assert check_options(method_class("unet").Options, few.model_dump(mode="json"), "unet") == few
