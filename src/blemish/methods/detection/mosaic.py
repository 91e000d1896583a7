"""Mosaics: training images put together from four (Bochkovskiy et al. 2020), made from a batch as it is."""

import torch
import torch.nn.functional as F
from torch import Tensor

from blemish.methods.base import Batch

LEAST_SIDE = 2.0  # px; what is narrower after the cut is no longer a defect that one could see
LEAST_PART = 0.25  # a box of which less than this share is left goes


def mosaic(batch: Batch, share: float) -> Batch:
    """The batch with a share of its images replaced by four of its images around a random crossing.

    Each of the four is shrunk by a random factor from 0.5 to 1 and its corner at the crossing is seen. Only "image"
    and "boxes" are changed; masks do not fit any more and are dropped.
    """
    count, _, height, width = batch["image"].shape
    images, truth = [], []
    for i in range(count):
        if torch.rand(()) >= share:
            images.append(batch["image"][i])
            truth.append(batch["boxes"][i])
            continue
        others = torch.randint(count, (3,)).tolist()
        image, boxes = _four(batch, [i, *others], height, width)
        images.append(image)
        truth.append(boxes)
    return {"image": torch.stack(images), "boxes": truth}


def _four(batch: Batch, chosen: list[int], height: int, width: int) -> tuple[Tensor, Tensor]:
    cx, cy = (int(side * (0.3 + 0.4 * float(torch.rand(())))) for side in (width, height))
    canvas = torch.empty_like(batch["image"][0])
    found = []
    for quarter, index in enumerate(chosen):
        right, low = quarter % 2, quarter // 2
        x0, x1 = (cx, width) if right else (0, cx)
        y0, y1 = (cy, height) if low else (0, cy)
        least = max(0.5, (x1 - x0) / width, (y1 - y0) / height)
        scale = least + (1 - least) * float(torch.rand(()))
        h, w = round(height * scale), round(width * scale)
        image = F.interpolate(batch["image"][index][None], size=(h, w), mode="bilinear", antialias=True)[0]
        # The corner of the image that points to the crossing lies there.
        left, top = (0 if right else w - (x1 - x0)), (0 if low else h - (y1 - y0))
        canvas[:, y0:y1, x0:x1] = image[:, top : top + y1 - y0, left : left + x1 - x0]
        factor = torch.tensor([w / width, h / height] * 2, device=image.device)
        shift = torch.tensor([x0 - left, y0 - top] * 2, device=image.device)
        found.append(_cut(batch["boxes"][index], factor, shift, (x0, y0, x1, y1)))
    return canvas, torch.cat(found)


def _cut(boxes: Tensor, factor: Tensor, shift: Tensor, window: tuple[int, int, int, int]) -> Tensor:
    """Boxes (M, 5) scaled and moved, cut to the window; those of which little is left go."""
    moved = boxes[:, :4] * factor + shift
    x0, y0, x1, y1 = window
    cut = torch.stack(
        [moved[:, 0].clamp(x0, x1), moved[:, 1].clamp(y0, y1), moved[:, 2].clamp(x0, x1), moved[:, 3].clamp(y0, y1)],
        dim=1,
    )
    sides = cut[:, 2:] - cut[:, :2]
    part = sides.prod(dim=1) / (moved[:, 2:] - moved[:, :2]).prod(dim=1).clamp(min=1e-6)
    keep = (sides.amin(dim=1) >= LEAST_SIDE) & (part >= LEAST_PART)
    return torch.cat([cut, boxes[:, 4:]], dim=1)[keep]
