"""Random changes of a training image that leave its truth true: image, masks and boxes move together."""

from typing import Any

import torch
from pydantic import Field
from torch import Tensor
from torchvision import tv_tensors
from torchvision.ops import masks_to_boxes
from torchvision.transforms import v2
from torchvision.transforms.v2 import functional as F

from blemish.methods.base import Item, Options

LEAST_PART = 0.25  # a box of which less than this share is left in the picture goes
MASKS = ("valid", "mask", "mask_labels", "box_masks")
# Options of an augmentation that changes nothing.
UNCHANGED: dict[str, Any] = {"flip": False, "turn": False, "zoom": 0, "shift": 0, "brightness": 0, "contrast": 0}
# What comes in from outside the picture is grey, and does not count.
FILL = {tv_tensors.Image: 0.5, tv_tensors.Mask: 0, "others": 0}


class AugmentationOptions(Options):
    """Options of methods that augment their training images; each change happens on its own, at random."""

    flip: bool = Field(True, description="mirror half of the images left to right, and half upside down")
    turn: bool = Field(True, description="turn by a random multiple of 90 degrees")
    rotate: float = Field(0.0, ge=0, le=180, description="largest further rotation, in degrees")
    zoom: float = Field(0.1, ge=0, lt=1, description="largest change of scale, as a share")
    shift: float = Field(0.05, ge=0, lt=1, description="largest shift, as a share of the image")
    brightness: float = Field(0.15, ge=0, lt=1, description="largest change of brightness, in parts of full scale")
    contrast: float = Field(0.2, ge=0, lt=1, description="largest change of contrast, as a share")
    blur: float = Field(0.0, ge=0, description="largest sigma of a Gaussian blur, in px, for half of the images")
    noise: float = Field(0.0, ge=0, lt=1, description="largest sigma of Gaussian noise, in parts of full scale")


def augment(item: Item, how: AugmentationOptions) -> Item:
    """An item, as of `blemish.methods.base`, changed at random by torch's generator; the item itself stays as it is."""
    moved = _moved(_wrapped(item), how)
    return {**item, **_unwrapped(item, moved), "image": _recoloured(torch.Tensor(moved["image"]), how)}


def iou_crop(item: Item, share: float, canvas: float) -> Item:
    """An item, of its own size, that shows a random part: the crops of SSD (Liu et al. 2016, sections 2.2 and 3.6).

    Half of all images are first laid on a grey canvas with sides up to `canvas` times as long. Then a `share` of them
    is cut to a part that overlaps some box by a drawn share (one in seven stays whole); its sides are 0.3 to
    1 of the image's, each by itself, so shapes change. A box stays whose centre is in the part, one with a mask if
    enough of that is left.
    """
    parts = _wrapped(item)
    if canvas > 1:
        parts = v2.RandomZoomOut(FILL, (1.0, canvas))(parts)
    if torch.rand(()) < share:
        parts = v2.RandomIoUCrop()(parts)
    return _resized({**item, **_unwrapped(item, parts)}, list(item["image"].shape[-2:]))


def _resized(item: Item, size: list[int]) -> Item:
    found = {key: F.resize(value, size) for key, value in _wrapped(item).items()}
    boxes = torch.cat([found.pop("boxes").as_subclass(torch.Tensor), item["boxes"][:, 4:]], dim=1)
    return {**item, "boxes": boxes, **_unwrapped(item, found)}


def _wrapped(item: Item) -> Item:
    """The geometric parts, as tensors that torchvision knows how to move."""
    size = tuple(item["image"].shape[-2:])
    found: Item = {"image": tv_tensors.Image(item["image"])}
    found |= {key: tv_tensors.Mask(item[key].to(torch.uint8)) for key in MASKS if key in item}
    if "boxes" in item:
        # Not cut to the picture on the way: how much of a box is left is told in the end.
        found["boxes"] = tv_tensors.BoundingBoxes(
            item["boxes"][:, :4], format="XYXY", canvas_size=size, clamping_mode=None
        )
    if "template" in item:
        found["template"] = tv_tensors.Image(item["template"])
    return found


def _moved(parts: Item, how: AugmentationOptions) -> Item:
    if how.flip:
        parts = v2.RandomVerticalFlip()(v2.RandomHorizontalFlip()(parts))
    if how.turn and parts["image"].shape[-1] == parts["image"].shape[-2]:
        angle = 90.0 * int(torch.randint(4, ()))
        parts = {key: F.rotate(value, angle) for key, value in parts.items()}
    if how.rotate or how.zoom or how.shift:
        scale = (1 - how.zoom, 1 + how.zoom)
        parts = v2.RandomAffine(how.rotate, (how.shift, how.shift), scale, None, v2.InterpolationMode.BILINEAR, FILL)(
            parts
        )
    return parts


def _unwrapped(item: Item, moved: Item) -> Item:
    found: Item = {key: torch.Tensor(moved[key]) for key in ("image", "template") if key in moved}
    found |= {key: moved[key].as_subclass(torch.Tensor).to(item[key].dtype) for key in MASKS if key in moved}
    if "boxes" in moved:
        boxes, kept = _still_there(moved["boxes"])
        if "box_masks" in found:
            boxes, kept = _about(found["box_masks"], item["box_masks"])
            found["box_masks"] = found["box_masks"][kept]
        found["boxes"] = torch.cat([boxes[kept], item["boxes"][kept, 4:]], dim=1)
    return found


def _about(masks: Tensor, before: Tensor) -> tuple[Tensor, Tensor]:
    """Boxes (M, 4) about masks (M, H, W), for a turned box is larger than its defect; and which show enough of it."""
    kept = (masks.sum(dim=(1, 2)) >= LEAST_PART * before.sum(dim=(1, 2))) & masks.flatten(1).any(dim=1)
    boxes = torch.zeros(len(masks), 4)
    if kept.any():
        boxes[kept] = masks_to_boxes(masks[kept]) + torch.tensor([0.0, 0.0, 1.0, 1.0])  # it gives the last pixels
    return boxes, kept


def _still_there(boxes: tv_tensors.BoundingBoxes) -> tuple[Tensor, Tensor]:
    """Boxes (M, 4) cut to the picture, and which of them still show enough of their defect."""
    height, width = boxes.canvas_size
    whole = boxes.as_subclass(torch.Tensor)
    limit = torch.tensor([width, height, width, height], dtype=whole.dtype)
    cut = torch.minimum(whole.clamp(min=0), limit)
    areas = [(b[:, 2] - b[:, 0]) * (b[:, 3] - b[:, 1]) for b in (whole, cut)]
    return cut, (areas[1] > 1) & (areas[1] >= LEAST_PART * areas[0])


def _recoloured(image: Tensor, how: AugmentationOptions) -> Tensor:
    """Brightness, contrast, blur and noise of an image (C, H, W)."""
    gain = 1 + how.contrast * _uniform()
    offset = how.brightness * _uniform()
    image = (image - image.mean()) * gain + image.mean() + offset
    if how.blur and _uniform() > 0:
        sigma = max(1e-3, how.blur * abs(_uniform()))
        image = F.gaussian_blur(image, [2 * int(3 * sigma + 0.5) + 1] * 2, [sigma] * 2)
    if how.noise:
        image = image + torch.randn_like(image) * how.noise * abs(_uniform())
    return image.clamp(0, 1)


def _uniform() -> float:
    """A random number between -1 and 1."""
    return float(torch.rand(())) * 2 - 1
