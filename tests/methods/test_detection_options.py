"""Detectors learn with each of their options, from what counts alone, and ship their averaged weights."""

import math
from datetime import timedelta

import lightning as L
import pytest
import torch
import torch.nn.functional as F
from lightning.pytorch.callbacks import Callback
from torch import nn
from torch.utils.data import DataLoader
from torchvision.ops import roi_align

from blemish.errors import OptionError
from blemish.methods.catalogue import method_class
from blemish.methods.detection.faster_rcnn import Regions, matched_anew
from blemish.methods.detection.matching import BACKGROUND, IGNORED, without_ignored
from blemish.training.learn.checkpoint import LastCheckpoint
from blemish.training.learn.options import check_options

SIDE = 64
DETECTORS = ("retinanet", "ssd", "fcos", "yolo", "faster-rcnn", "mask-rcnn")


def detector(name, **options):
    torch.manual_seed(0)
    kind = method_class(name)
    tiny = {"image_size": SIDE, "width": 16, "steps": 4, "mosaic": 0.0}
    tiny |= {"backbone": "test_resnet", "weights": "random"} if options.get("backbone") != "csp" else {}
    if "hidden" in kind.Options.model_fields:
        tiny |= {"hidden": 16, "proposals": 20, "sampled": 16}
    return kind(kind.Options(**{**tiny, **options}), ("good", "pit", "dent"))


def batch_of(*boxes):
    """A good image and one with defects at the boxes, x0 y0 x1 y1 and class; all pixels count."""
    torch.manual_seed(1)
    image, masks = torch.rand(2, 3, SIDE, SIDE) * 0.2, torch.zeros(len(boxes), SIDE, SIDE, dtype=torch.bool)
    for (x0, y0, x1, y1, _), mask in zip(boxes, masks, strict=True):
        image[1, :, y0:y1, x0:x1] = 1.0
        mask[y0:y1, x0:x1] = True
    truth = torch.tensor(boxes, dtype=torch.float32).reshape(-1, 5)
    return {
        "image": image, "valid": torch.ones(2, SIDE, SIDE, dtype=torch.bool), "has_boxes": torch.tensor([True, True]),
        "boxes": [torch.zeros(0, 5), truth], "box_masks": [masks[:0], masks],
    }  # fmt: skip


TWO = batch_of((8, 10, 30, 26, 0), (36, 34, 60, 58, 1))
CASES = [
    *((name, {"suppression": "soft"}) for name in DETECTORS),
    *(("retinanet", {"box_loss": kind}) for kind in ("smooth-l1", "ciou")),
    *(("ssd", {"box_loss": kind}) for kind in ("giou", "ciou")),
    *(("ssd", {"neck": neck}) for neck in ("source", "fpn")),
    *(("faster-rcnn", {"box_loss": kind}) for kind in ("giou", "ciou")),
    ("fcos", {"box_loss": "ciou"}),
    ("yolo", {"box_loss": "giou"}),
    ("yolo", {"backbone": "csp"}),
    ("yolo", {"mosaic": 1.0}),
    ("faster-rcnn", {"neck": "single"}),
    ("faster-rcnn", {"class_loss": "focal"}),
    ("faster-rcnn", {"pooling": "pool"}),
    ("faster-rcnn", {"cascade": 3}),
    ("mask-rcnn", {"cascade": 2}),
    ("mask-rcnn", {"neck": "single", "pooling": "pool"}),
]


@pytest.mark.parametrize(("name", "options"), CASES, ids=[f"{n} {o}" for n, o in CASES])
def test_learns_with_each_option(name, options):
    method = detector(name, **options).train()
    optimizer = method.configure_optimizers()["optimizer"]
    first = next(method.features.backbone.parameters())
    for _ in range(2):
        loss = method.training_step(TWO, 0)
        optimizer.zero_grad()
        loss.backward()
        assert loss.isfinite()
        assert first.grad.abs().max() > 0
        assert all(p.grad.isfinite().all() for p in method.parameters() if p.grad is not None)
        optimizer.step()
    with torch.no_grad():
        found = method.eval()(TWO["image"])
    assert all(value.isfinite().all() for value in found.values())
    assert (found["box_scores"].diff(dim=1) <= 0).all()


@pytest.mark.parametrize("name", DETECTORS)
def test_a_canvas_and_crops_change_what_is_learnt_from(name):
    """A crop shows the pit larger, a canvas smaller; by default, with nothing else that scales, it keeps its size."""
    one = {key: value[1] for key, value in TWO.items()} | {"label": torch.tensor(1)}
    sizes = {}
    for options in ({}, {"crop": 1.0}, {"canvas": 4.0}):
        change = detector(name, **options, flip=False, turn=False, zoom=0.0, shift=0.0).train_transform()
        torch.manual_seed(0)
        boxes = torch.cat([change(one)["boxes"] for _ in range(30)])
        sizes[tuple(options)] = (boxes[boxes[:, 4] == 0, 2:4] - boxes[boxes[:, 4] == 0, :2])[:, 0]
    assert set(sizes[()].tolist()) == {22.0}
    assert sizes["crop",].max() > 30
    assert sizes["canvas",].max() == 22
    assert sizes["canvas",].min() < 11


def test_a_stage_of_a_cascade_corrects_the_boxes_of_the_one_before():
    method = detector("faster-rcnn", cascade=2).eval()
    names = torch.tensor([[0.0, 1.0, 3.0], [0.0, 2.0, 1.0]])
    moves = torch.zeros(2, 2, 4)
    moves[0, 1, 0] = 1.0  # the first stage's likeliest class: a tenth of the width to the right
    moves[1, 0, 3] = 2.0  # a tenth of exp() higher, about the middle
    for head, name, move in zip(method.heads, names, moves, strict=True):
        for layer, bias in ((head.name_region, name), (head.place_region, move.flatten())):
            nn.init.zeros_(layer.weight)
            layer.bias.data.copy_(bias)
    images = TWO["image"]
    with torch.no_grad():
        maps = method.features(images)
        given, real = method.proposals(images, *method.first_stage(maps))
        boxes, scores = method.raw_from(maps, images)
    x0, y0, x1, y1 = given.unbind(dim=2)
    x0, x1 = (x0 + 0.1 * (x1 - x0)).clamp(max=SIDE), (x1 + 0.1 * (x1 - x0)).clamp(max=SIDE)
    taller = (y1 - y0) * (math.exp(0.2) - 1) / 2
    expected = torch.stack([x0, (y0 - taller).clamp(min=0), x1, (y1 + taller).clamp(max=SIDE)], dim=2)
    torch.testing.assert_close(boxes[real][:, 0], expected[real], atol=1e-3, rtol=1e-4)
    both = names.softmax(dim=1)[:, 1:].mean(dim=0)
    torch.testing.assert_close(scores[real], both.expand(int(real.sum()), 2))


def test_a_later_stage_asks_for_a_closer_fit():
    truth = [torch.tensor([[0.0, 0.0, 20.0, 20.0, 1.0]])]
    fits = torch.tensor([[[0.0, 0, 20, 20], [0, 0, 20, 13], [0, 0, 20, 11], [40, 40, 60, 60], [0, 0, 20, 20]]])
    before = torch.tensor([[IGNORED, 0, 0, BACKGROUND, IGNORED]])
    real = torch.tensor([[True, True, True, True, False]])
    valid = torch.ones(1, SIDE, SIDE, dtype=torch.bool)
    regions = Regions(torch.zeros(1, 5, 4), real, before, before, torch.zeros(1, 5, 4))
    for overlap, third in ((0.5, 0), (0.6, BACKGROUND)):  # 11 of 20 rows are an IoU of 0.55
        found = matched_anew(fits, regions, truth, valid, overlap)
        assert found.found.tolist() == [[0, 0, third, BACKGROUND, IGNORED]]
        assert found.labels[0, :2].tolist() == [1, 1]
        assert torch.equal(found.boxes, fits)


@pytest.mark.parametrize("idle", [{"weights": "imagenet"}, {"frozen_stride": 8}, {"backbone_rate": 0.1}])
def test_options_of_pretrained_backbones_do_not_go_with_one_from_scratch(idle):
    with pytest.raises(OptionError, match=f"{next(iter(idle))}=.* is for pretrained backbones"):
        detector("yolo", backbone="csp", **idle)
    detector("yolo", backbone="csp", weights="random", frozen_stride=0, backbone_rate=1.0)


@pytest.mark.parametrize("name", DETECTORS)
def test_what_does_not_count_is_neither_background_nor_defect(name):
    def losses(batch):
        torch.manual_seed(2)
        return method.training_step(batch, 0)

    method = detector(name).train()
    blind = {**batch_of((8, 10, 30, 26, 0)), "valid": torch.zeros(2, SIDE, SIDE, dtype=torch.bool)}
    losses(blind).backward()
    assert losses(blind) == 0
    assert all(p.grad is None or not p.grad.any() for p in method.parameters())
    half = TWO["valid"].clone()
    half[:, :, :32] = False
    marked = {**TWO, "valid": half}
    unmarked = {**marked, "boxes": [b[1:] for b in TWO["boxes"]], "box_masks": [m[1:] for m in TWO["box_masks"]]}
    assert losses(marked) == losses(unmarked)
    assert losses({**unmarked, "valid": TWO["valid"]}) != losses(unmarked)


def test_background_is_ignored_where_no_pixel_counts():
    valid = torch.ones(2, 8, 16, dtype=torch.bool)
    valid[0, :, :5] = False
    points = torch.tensor([[4.9, 1.0], [5.0, 1.0], [-3.0, 2.0], [40.0, 9.0]])
    matched = torch.tensor([[BACKGROUND, BACKGROUND, 0, BACKGROUND], [BACKGROUND, IGNORED, BACKGROUND, 1]])
    expected = matched.clone()
    expected[0, 0] = IGNORED
    assert torch.equal(without_ignored(matched, points, valid), expected)
    assert torch.equal(without_ignored(matched[0], points, valid[0]), expected[0])


def regions_of(found, labels, boxes):
    return Regions(boxes, torch.ones_like(found, dtype=torch.bool), found, labels, torch.zeros_like(boxes))


def test_masks_are_learnt_from_regions_with_a_defect_alone():
    method = detector("mask-rcnn").eval()
    maps = [m.detach() for m in method.features(TWO["image"])]
    boxes = torch.tensor([
        [[0, 0, 20, 20], [40, 3, 60, 30], [0, 0, 0, 0]],
        [[7, 9, 29, 27], [30, 30, 62, 60], [3, 40, 20, 60]],
    ], dtype=torch.float32)  # fmt: skip
    found = torch.tensor([[-1, -1, -2], [0, 1, -1]])
    labels = torch.tensor([[-1, -1, -1], [0, 1, -1]])
    masks = TWO["box_masks"]
    losses = []
    for region in range(2):
        box = boxes[1:, region : region + 1]
        own = method.mask_head(method.mask_pool([m[1:] for m in maps], box))[0, region]
        wanted = roi_align(masks[1][region][None, None].float(), [box[0]], own.shape, 1.0, -1, aligned=True)[0, 0]
        losses.append(F.binary_cross_entropy_with_logits(own, (wanted >= 0.5).float()))
    torch.testing.assert_close(
        method.mask_loss(maps, regions_of(found, labels, boxes), masks), torch.stack(losses).mean()
    )
    method.train()  # BatchNorm sees no background either
    alone = method.mask_loss(maps, regions_of(found[:, :2], labels[:, :2], boxes[:, :2]), masks)
    found[:, 0], labels[:, 0] = torch.tensor([-1, 0]), torch.tensor([-1, 0])
    elsewhere = boxes.clone()
    elsewhere[0] = torch.tensor([30.0, 30, 64, 64])
    assert method.mask_loss(maps, regions_of(found, labels, elsewhere), masks) == alone
    statistics = [value.clone() for value in method.mask_head.buffers()]
    none = method.mask_loss(maps, regions_of(found.clamp(max=-1), labels, boxes), masks)
    none.backward()
    assert none == 0
    assert all(torch.equal(a, b) for a, b in zip(statistics, method.mask_head.buffers(), strict=True))


class Weights(Callback):
    """What a network's weights are after each step."""

    def __init__(self):
        self.seen = []

    def on_train_batch_end(self, trainer, method, *_):
        self.seen.append({key: value.detach().clone() for key, value in method.named_parameters()})


def test_averaged_weights_are_those_of_a_plain_loop_also_when_interrupted(tmp_path):
    seen, mean = Weights(), {key: value.detach() for key, value in detector("retinanet").named_parameters()}
    for steps in (2, 4):  # cut off after two steps, of which the checkpoint is
        method = detector("retinanet", average=0.25)
        trainer = L.Trainer(
            max_steps=steps, callbacks=[seen, LastCheckpoint(tmp_path / "last.ckpt", timedelta(0))], logger=False,
            accelerator="cpu", enable_progress_bar=False, enable_model_summary=False,
        )  # fmt: skip
        checkpoint = tmp_path / "last.ckpt" if steps == 4 else None
        trainer.fit(method, DataLoader([TWO], batch_size=None), ckpt_path=checkpoint, weights_only=True)
    assert len(seen.seen) == 4
    for step, own in enumerate(seen.seen, 1):
        decay = min(0.25, (1 + step) / (10 + step))
        mean = {key: decay * value + (1 - decay) * own[key] for key, value in mean.items()}
    for key, value in method.named_parameters():
        torch.testing.assert_close(value.detach(), mean[key])


@pytest.mark.parametrize("values", [[], [0.0], [-1.0, 2.0], [float("inf")]])
@pytest.mark.parametrize(
    ("name", "option"),
    [("retinanet", "ratios"), ("retinanet", "scales"), ("faster-rcnn", "sides"), ("mask-rcnn", "scales"),
     ("ssd", "ratios")],
)  # fmt: skip
def test_sizes_of_anchors_are_positive_and_some(name, option, values):
    if name == "ssd" and not values:
        values = [-0.5]  # SSD needs none: it has squares
    with pytest.raises(OptionError, match=f"option {option}"):
        check_options(method_class(name).Options, {option: values}, name)


@pytest.mark.parametrize("name", ["faster-rcnn", "retinanet", "fcos", "ssd", "yolo"])
def test_one_small_image_is_enough_for_a_step(name):
    """Its coarsest map is a single place, of which BatchNorm would have no spread."""
    method = detector(name).train()
    batch = {key: value[1:] for key, value in TWO.items()}
    loss = method.training_step(batch, 0)
    loss.backward()
    assert torch.isfinite(loss)
