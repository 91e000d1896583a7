"""Anchors: their locations and shapes, and their fit to the sizes of boxes."""

import numpy as np
import pytest
import torch
from torchvision.ops import box_iou

from blemish.errors import OptionError
from blemish.methods.catalogue import method_class
from blemish.methods.detection.anchors import AnchorGenerator, anchor_shapes, cluster_sizes, size_iou
from blemish.methods.detection.boxes import cell_centres
from blemish.methods.detection.retinanet import RetinaNetOptions
from blemish.training.learn.fit import build_method, fit
from blemish.training.learn.options import check_options
from blemish.training.learn.run import RunConfig


def test_anchors_are_centred_on_cells():
    anchors = AnchorGenerator(anchor_shapes([8, 16], (4.0,), (0.5, 1.0, 2.0)), [8, 16])
    boxes = anchors([torch.zeros(1, 1, 4, 3), torch.zeros(1, 1, 2, 2)])
    assert boxes.shape == ((12 + 4) * 3, 4)
    torch.testing.assert_close(boxes[1], torch.tensor([4 - 16.0, 4 - 16.0, 4 + 16.0, 4 + 16.0]))
    torch.testing.assert_close((boxes[:36, 2:] - boxes[:36, :2]).prod(dim=1), torch.full((36,), 32.0**2))
    torch.testing.assert_close(cell_centres(4, 3, 8)[3], torch.tensor([4.0, 12.0]))


def test_fitted_anchors_recover_clusters_of_sizes():
    rng = np.random.default_rng(0)
    groups = np.array([[10, 12], [40, 20], [30, 100], [150, 140]], float)
    sizes = np.concatenate([group * rng.uniform(0.95, 1.05, (50, 2)) for group in groups])
    result = cluster_sizes(sizes, 4)
    assert size_iou(groups, result).max(axis=1).min() > 0.9
    anchors = AnchorGenerator(anchor_shapes([8, 16], (4.0,), (1.0, 2.0)), [8, 16])
    anchors.fit(sizes)
    assert anchors.shapes.prod(dim=-1).flatten().diff().min() > 0


def placed(sizes: np.ndarray, side: int = 256) -> torch.Tensor:
    corner = np.random.default_rng(1).uniform(0, side - sizes)
    return torch.tensor(np.hstack([corner, corner + sizes]), dtype=torch.float32)


@pytest.mark.parametrize("sides", [(10, 40), (16, 200), (100, 240)])
@pytest.mark.parametrize("name", ["retinanet", "ssd", "faster-rcnn"])
def test_fitted_anchors_match_more_boxes_than_clusters_spread_over_levels_by_rank(name, sides):
    kind = method_class(name)
    method = kind(kind.Options(backbone="test_resnet", weights="random"), ("good", "a")).eval()
    with torch.no_grad():
        maps = method.features(torch.zeros(1, 3, 256, 256))
    rng = np.random.default_rng(0)
    side, stretch = np.exp(rng.uniform(*np.log(sides), 300)), np.exp(rng.uniform(-1, 1, 300))
    sizes = np.stack([side * np.sqrt(stretch), side / np.sqrt(stretch)], axis=1)
    sizes = sizes[(sizes < 250).all(axis=1)]
    boxes = placed(sizes)

    def result() -> float:
        return float((box_iou(boxes, method.anchors(maps)).amax(dim=1) >= 0.5).float().mean())

    stated = method.anchors.shapes.clone()
    method.anchors.fit(sizes)
    fitted, own = result(), method.anchors.shapes.clone()
    method.anchors.shapes.copy_(torch.from_numpy(cluster_sizes(sizes, own.shape[0] * own.shape[1])).view_as(own))
    assert fitted >= max(result(), 0.86)
    # On the level whose stated shapes they are nearest to; a level without boxes keeps those.
    assert ((own != stated).flatten(1).any(dim=1)).any()
    level = (own.log().mean(dim=(1, 2))[:, None] - stated.log().mean(dim=(1, 2))[None]).abs().argmin(dim=1)
    assert level.tolist() == list(range(len(level)))


def test_anchors_of_a_single_map_span_the_image_whatever_its_size():
    kind = method_class("faster-rcnn")
    shapes = []
    for side in (256, 512):
        options = kind.Options(neck="single", image_size=side, ratios=(1.0,), backbone="test_resnet", weights="random")
        shapes.append(kind(options, ("good", "a")).anchors.shapes / side)
    torch.testing.assert_close(shapes[0], shapes[1])
    torch.testing.assert_close(shapes[0][0, :, 0], torch.tensor([128, 256, 512]) / 600, atol=0.005, rtol=0)


def test_fewer_sizes_than_clusters():
    assert cluster_sizes(np.array([[10.0, 10.0], [20.0, 30.0]]), 6).shape == (6, 2)


@pytest.mark.parametrize(
    ("name", "most"), [("retinanet", 0.02), ("faster-rcnn", 0.02), ("mask-rcnn", 0.02), ("ssd", 0.02)]
)
def test_default_anchors_match_long_and_square_defects(name, most):
    """The number of boxes, at most six times as long as wide, that no anchor matches."""
    kind = method_class(name)
    method = kind(kind.Options(backbone="test_resnet", weights="random"), ("good", "a")).eval()
    with torch.no_grad():
        anchors = method.anchors(method.features(torch.zeros(1, 3, 256, 256)))
    rng = np.random.default_rng(0)
    side, stretch = np.exp(rng.uniform(np.log(24), np.log(160), 500)), np.exp(rng.uniform(-1.8, 1.8, 500))
    sides = np.stack([side * np.sqrt(stretch), side / np.sqrt(stretch)], axis=1)
    sides = sides[(sides < 250).all(axis=1)]
    corner = rng.uniform(0, 256 - sides)
    boxes = torch.tensor(np.hstack([corner, corner + sides]), dtype=torch.float32)
    assert float((box_iou(boxes, anchors).amax(dim=1) < 0.5).float().mean()) < most


@pytest.mark.parametrize("tile", [None, 32])
def test_anchors_are_fitted_to_boxes_as_the_network_sees_them(tile, tiny_data, tmp_path):
    """Defects of 13 px: in tiles of half the image's side, which the network sees enlarged, of 26."""
    options = {"image_size": 64, "batch_size": 8, "steps": 1, "backbone": "test_resnet", "weights": "random",
               "width": 16, "depth": 0, "anchors": "fitted", "scales": (1.0,), "ratios": (1.0,),
               "flip": False, "turn": False, "zoom": 0, "shift": 0}  # fmt: skip
    config = RunConfig(
        blemish="0",
        data="",
        method="retinanet",
        options=RetinaNetOptions(**options).model_dump(mode="json"),
        trainer={"accelerator": "cpu"},
        tiling=None if tile is None else {"height": tile, "width": tile, "overlap": 0.0},
    )
    whole = tiny_data.dataset(("boxes",))
    pits = whole.with_samples([s for s in whole.samples if s.label == "pit"])
    method = build_method(config, pits)
    fit(method, pits, config, run=tmp_path / "run")
    sides = method.anchors.shapes[:, 0, 0].tolist()  # of strides 8, 16, 32 and 64
    near = {1: 13} if tile is None else {2: 26}
    assert [sides[level] for level in near] == pytest.approx(list(near.values()))
    assert [sides[0], sides[3]] == [8, 64]  # as stated, for no box is near to them


@pytest.mark.parametrize("values", [[], [0.0], [-1.0, 2.0], [float("inf")]])
@pytest.mark.parametrize(
    ("name", "option"),
    [("retinanet", "ratios"), ("retinanet", "scales"), ("faster-rcnn", "sides"), ("mask-rcnn", "scales"),
     ("ssd", "ratios")],
)  # fmt: skip
def test_anchor_sizes_must_be_positive_and_not_empty(name, option, values):
    if name == "ssd" and not values:
        values = [-0.5]  # SSD needs none: it has squares
    with pytest.raises(OptionError, match=f"option {option}"):
        check_options(method_class(name).Options, {option: values}, name)
