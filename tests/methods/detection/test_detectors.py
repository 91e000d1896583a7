"""Every detector: trains with each of its options, on valid pixels only, and ships its averaged weights."""

from datetime import timedelta

import lightning as L
import pytest
import torch
from lightning.pytorch.callbacks import Callback
from torch.utils.data import DataLoader

from blemish.training.learn.checkpoint import LastCheckpoint

SIDE = 64
DETECTORS = ("retinanet", "ssd", "fcos", "yolo", "faster-rcnn", "mask-rcnn")
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
def test_trains_with_each_option(name, options, make_detector, two_defects):
    method = make_detector(name, **options).train()
    optimizer = method.configure_optimizers()["optimizer"]
    first = next(method.features.backbone.parameters())
    for _ in range(2):
        loss = method.training_step(two_defects, 0)
        optimizer.zero_grad()
        loss.backward()
        assert loss.isfinite()
        assert first.grad.abs().max() > 0
        assert all(p.grad.isfinite().all() for p in method.parameters() if p.grad is not None)
        optimizer.step()
    with torch.no_grad():
        result = method.eval()(two_defects["image"])
    assert all(value.isfinite().all() for value in result.values())
    assert (result["box_scores"].diff(dim=1) <= 0).all()


@pytest.mark.parametrize("name", DETECTORS)
def test_canvas_and_crops_change_the_scale_of_training_boxes(name, make_detector, two_defects):
    """A crop shows the pit larger, a canvas smaller; by default, with nothing else that scales, it keeps its size."""
    one = {key: value[1] for key, value in two_defects.items()} | {"label": torch.tensor(1)}
    sizes = {}
    for options in ({}, {"crop": 1.0}, {"canvas": 4.0}):
        change = make_detector(name, **options, flip=False, turn=False, zoom=0.0, shift=0.0).train_transform()
        torch.manual_seed(0)
        boxes = torch.cat([change(one)["boxes"] for _ in range(30)])
        sizes[tuple(options)] = (boxes[boxes[:, 4] == 0, 2:4] - boxes[boxes[:, 4] == 0, :2])[:, 0]
    assert set(sizes[()].tolist()) == {22.0}
    assert sizes["crop",].max() > 30
    assert sizes["canvas",].max() == 22
    assert sizes["canvas",].min() < 11


@pytest.mark.parametrize("name", DETECTORS)
def test_invalid_pixels_are_neither_background_nor_defect(name, make_detector, make_batch, two_defects):
    def losses(batch):
        torch.manual_seed(2)
        return method.training_step(batch, 0)

    method = make_detector(name).train()
    blind = {**make_batch((8, 10, 30, 26, 0)), "valid": torch.zeros(2, SIDE, SIDE, dtype=torch.bool)}
    losses(blind).backward()
    assert losses(blind) == 0
    assert all(p.grad is None or not p.grad.any() for p in method.parameters())
    half = two_defects["valid"].clone()
    half[:, :, :32] = False
    marked = {**two_defects, "valid": half}
    unmarked = {
        **marked,
        "boxes": [b[1:] for b in two_defects["boxes"]],
        "box_masks": [m[1:] for m in two_defects["box_masks"]],
    }
    assert losses(marked) == losses(unmarked)
    assert losses({**unmarked, "valid": two_defects["valid"]}) != losses(unmarked)


class Weights(Callback):
    """A network's weights after each step."""

    def __init__(self):
        self.seen = []

    def on_train_batch_end(self, trainer, method, *_):
        self.seen.append({key: value.detach().clone() for key, value in method.named_parameters()})


def test_averaged_weights_equal_a_plain_loop_also_when_resumed(tmp_path, make_detector, two_defects):
    seen, mean = Weights(), {key: value.detach() for key, value in make_detector("retinanet").named_parameters()}
    for steps in (2, 4):  # cut off after two steps, of which the checkpoint is
        method = make_detector("retinanet", average=0.25)
        trainer = L.Trainer(
            max_steps=steps, callbacks=[seen, LastCheckpoint(tmp_path / "last.ckpt", timedelta(0))], logger=False,
            accelerator="cpu", enable_progress_bar=False, enable_model_summary=False,
        )  # fmt: skip
        checkpoint = tmp_path / "last.ckpt" if steps == 4 else None
        trainer.fit(method, DataLoader([two_defects], batch_size=None), ckpt_path=checkpoint, weights_only=True)
    assert len(seen.seen) == 4
    for step, own in enumerate(seen.seen, 1):
        decay = min(0.25, (1 + step) / (10 + step))
        mean = {key: decay * value + (1 - decay) * own[key] for key, value in mean.items()}
    for key, value in method.named_parameters():
        torch.testing.assert_close(value.detach(), mean[key])


@pytest.mark.parametrize("name", ["faster-rcnn", "retinanet", "fcos", "ssd", "yolo"])
def test_a_batch_of_one_small_image_trains(name, make_detector, two_defects):
    """Its coarsest map is a single place, of which BatchNorm would have no spread."""
    method = make_detector(name).train()
    batch = {key: value[1:] for key, value in two_defects.items()}
    loss = method.training_step(batch, 0)
    loss.backward()
    assert torch.isfinite(loss)
