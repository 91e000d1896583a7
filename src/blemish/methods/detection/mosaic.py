"""Mosaics: training images assembled from four of a batch (Bochkovskiy et al. 2020)."""

import torch
import torch.nn.functional as F
from torch import Tensor

from blemish.methods.base import Batch, Item

MIN_SIDE = 2.0  # px; a narrower rest of a box is no longer a visible defect
MIN_VISIBLE = 0.25  # boxes of which a smaller share is left are dropped


def make_mosaics(batch: Batch, share: float) -> Batch:
    """The batch with a share of its images replaced by mosaics: four of its images around a random crossing.

    Each of the four is shrunk by a random factor from 0.5 to 1 and its corner at the crossing is visible. "image",
    "valid", "boxes" and, where present, "box_masks" are assembled; all other entries are dropped.
    """
    count, _, height, width = batch["image"].shape
    keys = [key for key in ("image", "valid", "boxes", "box_masks") if key in batch]
    items: list[Item] = []
    for i in range(count):
        if torch.rand(()) >= share:
            items.append({key: batch[key][i] for key in keys})
        else:
            items.append(_mosaic(batch, [i, *torch.randint(count, (3,)).tolist()], height, width))
    mixed: Batch = {key: [item[key] for item in items] for key in keys}
    return {**mixed, "image": torch.stack(mixed["image"]), "valid": torch.stack(mixed["valid"])}


def _mosaic(batch: Batch, chosen: list[int], height: int, width: int) -> Item:
    """The mosaic of the four chosen images of a batch."""
    cx, cy = (int(side * (0.3 + 0.4 * float(torch.rand(())))) for side in (width, height))
    canvas, valid = torch.empty_like(batch["image"][0]), torch.empty_like(batch["valid"][0])
    boxes, masks = [], []
    for quarter, index in enumerate(chosen):
        right, low = quarter % 2, quarter // 2
        x0, x1 = (cx, width) if right else (0, cx)
        y0, y1 = (cy, height) if low else (0, cy)
        min_scale = max(0.5, (x1 - x0) / width, (y1 - y0) / height)
        scale = min_scale + (1 - min_scale) * float(torch.rand(()))
        h, w = round(height * scale), round(width * scale)
        image = F.interpolate(batch["image"][index][None], size=(h, w), mode="bilinear", antialias=True)[0]
        # The corner of the image that points to the crossing is placed there.
        left, top = (0 if right else w - (x1 - x0)), (0 if low else h - (y1 - y0))
        window = (..., slice(top, top + y1 - y0), slice(left, left + x1 - x0))
        canvas[:, y0:y1, x0:x1] = image[window]
        valid[y0:y1, x0:x1] = _resize_masks(batch["valid"][index][None], h, w)[0][window]
        factor = torch.tensor([w / width, h / height] * 2, device=image.device)
        shift = torch.tensor([x0 - left, y0 - top] * 2, device=image.device)
        visible, kept = _clip_to_window(batch["boxes"][index], factor, shift, (x0, y0, x1, y1))
        boxes.append(visible)
        if "box_masks" in batch:
            own = batch["box_masks"][index][kept]
            placed = own.new_zeros((len(own), height, width))
            placed[:, y0:y1, x0:x1] = _resize_masks(own, h, w)[window]
            masks.append(placed)
    item: Item = {"image": canvas, "valid": valid, "boxes": torch.cat(boxes)}
    return {**item, "box_masks": torch.cat(masks)} if masks else item


def _resize_masks(masks: Tensor, height: int, width: int) -> Tensor:
    """Masks (M, H, W) bool at another size."""
    return F.interpolate(masks[:, None].float(), size=(height, width), mode="nearest-exact")[:, 0] > 0


def _clip_to_window(
    boxes: Tensor, factor: Tensor, shift: Tensor, window: tuple[int, int, int, int]
) -> tuple[Tensor, Tensor]:
    """Boxes (M, 5) scaled, shifted and clipped to the window, without those that are hardly visible; and which stay."""
    moved = boxes[:, :4] * factor + shift
    low, high = (torch.tensor(window[i : i + 2] * 2, device=boxes.device) for i in (0, 2))
    clipped = torch.minimum(torch.maximum(moved, low), high)
    sides = clipped[:, 2:] - clipped[:, :2]
    visible = sides.prod(dim=1) / (moved[:, 2:] - moved[:, :2]).prod(dim=1).clamp(min=1e-6)
    keep = (sides.amin(dim=1) >= MIN_SIDE) & (visible >= MIN_VISIBLE)
    return torch.cat([clipped, boxes[:, 4:]], dim=1)[keep], keep
