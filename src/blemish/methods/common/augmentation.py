"""Random augmentation of training images: image, masks and boxes are transformed together."""

from typing import Any

import torch
from pydantic import Field
from torch import Tensor
from torchvision import tv_tensors
from torchvision.ops import masks_to_boxes
from torchvision.transforms import v2
from torchvision.transforms.v2 import functional as F

from blemish.methods.base import Item, Options

MIN_VISIBLE = 0.25  # a box of which a smaller share is left in the image is dropped
MASK_KEYS = ("valid", "mask", "mask_labels", "box_masks")
# Options of an augmentation that changes nothing.
UNCHANGED: dict[str, Any] = {"flip": False, "turn": False, "zoom": 0, "shift": 0, "brightness": 0, "contrast": 0}
# Pixels from outside the image are grey, and not valid.
FILL = {tv_tensors.Image: 0.5, tv_tensors.Mask: 0, "others": 0}


class AugmentationOptions(Options):
    """Options of methods that augment their training images; each change is applied independently at random."""

    flip: bool = Field(True, description="mirror half of the images left to right, and half upside down")
    turn: bool = Field(True, description="rotate by a random multiple of 90 degrees")
    rotate: float = Field(0.0, ge=0, le=180, description="largest further rotation, in degrees")
    zoom: float = Field(0.1, ge=0, lt=1, description="largest change of scale, as a share")
    shift: float = Field(0.05, ge=0, lt=1, description="largest shift, as a share of the image")
    brightness: float = Field(0.15, ge=0, lt=1, description="largest change of brightness, as a share of full scale")
    contrast: float = Field(0.2, ge=0, lt=1, description="largest change of contrast, as a share")
    blur: float = Field(0.0, ge=0, description="largest sigma of a Gaussian blur, in px, for half of the images")
    noise: float = Field(0.0, ge=0, lt=1, description="largest sigma of Gaussian noise, as a share of full scale")


def augment(item: Item, options: AugmentationOptions) -> Item:
    """A randomly augmented copy of an item (see `blemish.methods.base`), by torch's generator."""
    moved = _transform_geometry(_to_tv_tensors(item), options)
    return {
        **item,
        **_from_tv_tensors(item, moved),
        "image": _transform_intensity(torch.Tensor(moved["image"]), options),
    }


def iou_crop(item: Item, share: float, canvas: float) -> Item:
    """A random crop of an item, resized to the item's size: SSD's augmentation (Liu et al. 2016, sections 2.2, 3.6).

    Half of all images are first placed on a grey canvas with sides up to `canvas` times as long. Then a `share` of them
    is cropped to a region that overlaps some box by a random IoU (one in seven stays whole); its sides are 0.3 to
    1 of the image's, independently, so shapes change. A box is kept if its centre is in the crop; one with a mask, if
    enough of the mask is left.
    """
    tensors = _to_tv_tensors(item)
    if canvas > 1:
        tensors = v2.RandomZoomOut(FILL, (1.0, canvas))(tensors)
    if torch.rand(()) < share:
        tensors = v2.RandomIoUCrop()(tensors)
    return _resize({**item, **_from_tv_tensors(item, tensors)}, list(item["image"].shape[-2:]))


def _resize(item: Item, size: list[int]) -> Item:
    resized = {key: F.resize(value, size) for key, value in _to_tv_tensors(item).items()}
    boxes = torch.cat([resized.pop("boxes").as_subclass(torch.Tensor), item["boxes"][:, 4:]], dim=1)
    return {**item, "boxes": boxes, **_from_tv_tensors(item, resized)}


def _to_tv_tensors(item: Item) -> Item:
    """The entries with geometry, as tensors that torchvision's transforms know."""
    size = tuple(item["image"].shape[-2:])
    tensors: Item = {"image": tv_tensors.Image(item["image"])}
    tensors |= {key: tv_tensors.Mask(item[key].to(torch.uint8)) for key in MASK_KEYS if key in item}
    if "boxes" in item:
        # Clipped to the image only at the end, where the visible share of each box is known.
        tensors["boxes"] = tv_tensors.BoundingBoxes(
            item["boxes"][:, :4], format="XYXY", canvas_size=size, clamping_mode=None
        )
    if "template" in item:
        tensors["template"] = tv_tensors.Image(item["template"])
    return tensors


def _transform_geometry(tensors: Item, options: AugmentationOptions) -> Item:
    if options.flip:
        tensors = v2.RandomVerticalFlip()(v2.RandomHorizontalFlip()(tensors))
    if options.turn and tensors["image"].shape[-1] == tensors["image"].shape[-2]:
        angle = 90.0 * int(torch.randint(4, ()))
        tensors = {key: F.rotate(value, angle) for key, value in tensors.items()}
    if options.rotate or options.zoom or options.shift:
        scale = (1 - options.zoom, 1 + options.zoom)
        shift = (options.shift, options.shift)
        tensors = v2.RandomAffine(options.rotate, shift, scale, None, v2.InterpolationMode.BILINEAR, FILL)(tensors)
    return tensors


def _from_tv_tensors(item: Item, moved: Item) -> Item:
    """The transformed entries as plain tensors of their own dtypes; boxes outside the image are dropped."""
    entries: Item = {key: torch.Tensor(moved[key]) for key in ("image", "template") if key in moved}
    entries |= {key: moved[key].as_subclass(torch.Tensor).to(item[key].dtype) for key in MASK_KEYS if key in moved}
    if "boxes" in moved:
        boxes, visible = _clip_boxes(moved["boxes"])
        if "box_masks" in entries:
            boxes, visible = _boxes_of_masks(entries["box_masks"], item["box_masks"])
            entries["box_masks"] = entries["box_masks"][visible]
        entries["boxes"] = torch.cat([boxes[visible], item["boxes"][visible, 4:]], dim=1)
    return entries


def _boxes_of_masks(masks: Tensor, before: Tensor) -> tuple[Tensor, Tensor]:
    """Bounding boxes (M, 4) of masks (M, H, W), since a rotated box is larger than its defect, and which are visible.

    `before` (M, H, W) are the masks before the transform.
    """
    visible = (masks.sum(dim=(1, 2)) >= MIN_VISIBLE * before.sum(dim=(1, 2))) & masks.flatten(1).any(dim=1)
    boxes = torch.zeros(len(masks), 4)
    if visible.any():
        # torchvision returns the last pixels, which are inclusive
        boxes[visible] = masks_to_boxes(masks[visible]) + torch.tensor([0.0, 0.0, 1.0, 1.0])
    return boxes, visible


def _clip_boxes(boxes: tv_tensors.BoundingBoxes) -> tuple[Tensor, Tensor]:
    """Boxes (M, 4) clipped to the image, and which of them are still visible enough (M,) bool."""
    height, width = boxes.canvas_size
    whole = boxes.as_subclass(torch.Tensor)
    limit = torch.tensor([width, height, width, height], dtype=whole.dtype)
    clipped = torch.minimum(whole.clamp(min=0), limit)
    areas = [(b[:, 2] - b[:, 0]) * (b[:, 3] - b[:, 1]) for b in (whole, clipped)]
    return clipped, (areas[1] > 1) & (areas[1] >= MIN_VISIBLE * areas[0])


def _transform_intensity(image: Tensor, options: AugmentationOptions) -> Tensor:
    """Brightness, contrast, blur and noise of an image (C, H, W)."""
    gain = 1 + options.contrast * _uniform()
    offset = options.brightness * _uniform()
    image = (image - image.mean()) * gain + image.mean() + offset
    if options.blur and _uniform() > 0:
        sigma = max(1e-3, options.blur * abs(_uniform()))
        image = F.gaussian_blur(image, [2 * int(3 * sigma + 0.5) + 1] * 2, [sigma] * 2)
    if options.noise:
        image = image + torch.randn_like(image) * options.noise * abs(_uniform())
    return image.clamp(0, 1)


def _uniform() -> float:
    """A random number between -1 and 1."""
    return float(torch.rand(())) * 2 - 1
