"""Mosaics: training images put together from four (Bochkovskiy et al. 2020), made from a batch as it is."""

import torch
import torch.nn.functional as F
from torch import Tensor

from blemish.methods.base import Batch, Item

LEAST_SIDE = 2.0  # px; what is narrower after the cut is no longer a defect that one could see
LEAST_PART = 0.25  # a box of which less than this share is left goes


def mosaic(batch: Batch, share: float) -> Batch:
    """The batch with a share of its images replaced by four of its images around a random crossing.

    Each of the four is shrunk by a random factor from 0.5 to 1 and its corner at the crossing is seen. "image",
    "valid", "boxes" and, where they are there, "box_masks" are put together; all else does not fit any more and is
    dropped.
    """
    count, _, height, width = batch["image"].shape
    keys = [key for key in ("image", "valid", "boxes", "box_masks") if key in batch]
    found = []
    for i in range(count):
        if torch.rand(()) >= share:
            found.append({key: batch[key][i] for key in keys})
        else:
            found.append(_four(batch, [i, *torch.randint(count, (3,)).tolist()], height, width))
    mixed: Batch = {key: [one[key] for one in found] for key in keys}
    return {**mixed, "image": torch.stack(mixed["image"]), "valid": torch.stack(mixed["valid"])}


def _four(batch: Batch, chosen: list[int], height: int, width: int) -> Item:
    cx, cy = (int(side * (0.3 + 0.4 * float(torch.rand(())))) for side in (width, height))
    canvas, valid = torch.empty_like(batch["image"][0]), torch.empty_like(batch["valid"][0])
    found, masks = [], []
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
        seen = (..., slice(top, top + y1 - y0), slice(left, left + x1 - x0))
        canvas[:, y0:y1, x0:x1] = image[seen]
        valid[y0:y1, x0:x1] = _shrunk(batch["valid"][index][None], h, w)[0][seen]
        factor = torch.tensor([w / width, h / height] * 2, device=image.device)
        shift = torch.tensor([x0 - left, y0 - top] * 2, device=image.device)
        boxes, kept = _cut(batch["boxes"][index], factor, shift, (x0, y0, x1, y1))
        found.append(boxes)
        if "box_masks" in batch:
            own = batch["box_masks"][index][kept]
            placed = own.new_zeros((len(own), height, width))
            placed[:, y0:y1, x0:x1] = _shrunk(own, h, w)[seen]
            masks.append(placed)
    item: Item = {"image": canvas, "valid": valid, "boxes": torch.cat(found)}
    return {**item, "box_masks": torch.cat(masks)} if masks else item


def _shrunk(masks: Tensor, height: int, width: int) -> Tensor:
    """Masks (M, H, W) bool at another size."""
    return F.interpolate(masks[:, None].float(), size=(height, width), mode="nearest-exact")[:, 0] > 0


def _cut(boxes: Tensor, factor: Tensor, shift: Tensor, window: tuple[int, int, int, int]) -> tuple[Tensor, Tensor]:
    """Boxes (M, 5) scaled and moved, cut to the window, without those of which little is left; and which stay."""
    moved = boxes[:, :4] * factor + shift
    x0, y0, x1, y1 = window
    cut = torch.stack(
        [moved[:, 0].clamp(x0, x1), moved[:, 1].clamp(y0, y1), moved[:, 2].clamp(x0, x1), moved[:, 3].clamp(y0, y1)],
        dim=1,
    )
    sides = cut[:, 2:] - cut[:, :2]
    part = sides.prod(dim=1) / (moved[:, 2:] - moved[:, :2]).prod(dim=1).clamp(min=1e-6)
    keep = (sides.amin(dim=1) >= LEAST_SIDE) & (part >= LEAST_PART)
    return torch.cat([cut, boxes[:, 4:]], dim=1)[keep], keep
