"""Detectors of a few channels, and a batch of small images with boxes, for the tests of detectors."""

from collections.abc import Callable
from typing import Any

import pytest
import torch

from blemish.methods.base import Batch
from blemish.methods.catalogue import method_class
from blemish.methods.detection.boxes import cell_centres
from blemish.methods.detection.detector import Detector

SIDE = 64
MAP_SIDE = 128
STRIDES = (8, 16, 32)


@pytest.fixture(scope="session")
def make_detector() -> Callable[..., Detector]:
    """A tiny detector of a name with options, its weights always the same."""

    def make(name: str, **options: Any) -> Detector:
        torch.manual_seed(0)
        kind = method_class(name)
        tiny = {"image_size": SIDE, "width": 16, "steps": 4, "mosaic": 0.0}
        tiny |= {"backbone": "test_resnet", "weights": "random"} if options.get("backbone") != "csp" else {}
        if "hidden" in kind.Options.model_fields:
            tiny |= {"hidden": 16, "proposals": 20, "sampled": 16}
        return kind(kind.Options(**{**tiny, **options}), ("good", "pit", "dent"))

    return make


@pytest.fixture(scope="session")
def make_batch() -> Callable[..., Batch]:
    """A good image and one with defects at the boxes, x0 y0 x1 y1 and class; all pixels are valid."""

    def make(*boxes: tuple[int, int, int, int, int]) -> Batch:
        torch.manual_seed(1)
        image, masks = torch.rand(2, 3, SIDE, SIDE) * 0.2, torch.zeros(len(boxes), SIDE, SIDE, dtype=torch.bool)
        for (x0, y0, x1, y1, _), mask in zip(boxes, masks, strict=True):
            image[1, :, y0:y1, x0:x1] = 1.0
            mask[y0:y1, x0:x1] = True
        targets = torch.tensor(boxes, dtype=torch.float32).reshape(-1, 5)
        return {
            "image": image, "valid": torch.ones(2, SIDE, SIDE, dtype=torch.bool),
            "has_boxes": torch.tensor([True, True]), "boxes": [torch.zeros(0, 5), targets],
            "box_masks": [masks[:0], masks],
        }  # fmt: skip

    return make


@pytest.fixture
def two_defects(make_batch: Callable[..., Batch]) -> Batch:
    """A good image and one with a pit and a dent."""
    return make_batch((8, 10, 30, 26, 0), (36, 34, 60, 58, 1))


@pytest.fixture(scope="session")
def random_boxes() -> Callable[..., torch.Tensor]:
    """Boxes (..., 4) with corners within a `side`."""

    def make(*shape: int, seed: int = 0, side: float = 100) -> torch.Tensor:
        torch.manual_seed(seed)
        low = torch.rand(*shape, 2) * side
        return torch.cat([low, low + 1 + torch.rand(*shape, 2) * side / 2], dim=-1)

    return make


@pytest.fixture(scope="session")
def random_targets() -> Callable[[int, int], torch.Tensor]:
    """Targets (count, 5), x0 y0 x1 y1 and one of three classes, in an image of 128 px."""

    def make(count: int, seed: int) -> torch.Tensor:
        torch.manual_seed(seed)
        low = torch.rand(count, 2) * 80
        return torch.cat([low, low + 6 + torch.rand(count, 2) * 40, torch.randint(3, (count, 1)).float()], dim=1)

    return make


@pytest.fixture(scope="session")
def locations() -> tuple[torch.Tensor, torch.Tensor]:
    """Locations (K, 2) and strides (K,) of three levels of an image of 128 px."""
    points = [cell_centres(MAP_SIDE // s, MAP_SIDE // s, s) for s in STRIDES]
    strides = [torch.full((len(p),), float(s)) for p, s in zip(points, STRIDES, strict=True)]
    return torch.cat(points), torch.cat(strides)
