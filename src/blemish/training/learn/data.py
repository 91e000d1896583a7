"""From samples to batches of tensors, prepared by the same code as in the inspector."""

from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
import torch.distributed as dist
from torch.utils.data import DataLoader, Sampler, WeightedRandomSampler, default_collate
from torch.utils.data import Dataset as TorchDataset

from blemish.arrays import Image, Mask
from blemish.dataset.ground_truth import has_mask, known_boxes, read_defect_mask
from blemish.dataset.reference_image import read_reference
from blemish.dataset.sample import Dataset, Sample
from blemish.dataset.valid_mask import valid_mask
from blemish.imaging.pixel_range import scale_pixels
from blemish.imaging.prepare import to_unit
from blemish.imaging.read import image_header, read_image
from blemish.imaging.roi import Roi
from blemish.inspection.image_job import locate_part_in_file
from blemish.inspection.manifest import InputSpec, Tiling
from blemish.methods.base import Item
from blemish.synthesis.scene import PartMask, find_part_mask, part_extent
from blemish.training.learn.item_cache import ItemCache
from blemish.training.learn.targets import (
    CropView,
    box_targets,
    class_presence,
    filled_boxes,
    instance_targets,
    label_index,
    mask_targets,
    tile_classes,
    unknown_class_pixels,
)

RAGGED = ("boxes", "box_masks")  # keys whose length differs from image to image


@dataclass(frozen=True)
class View:
    """The network's view of an image: region of interest, tiles, and shape of the input."""

    input: InputSpec
    roi: Roi | None = None
    tiling: Tiling | None = None


class ImageItems(TorchDataset[Item]):
    """Samples, or their tiles, as dicts of tensors; see `blemish.methods.base.Batch` for the keys."""

    def __init__(
        self,
        dataset: Dataset,
        view: View,
        classes: tuple[str, ...],
        transform: Callable[[Item], Item] | None = None,
        annotations: Collection[str] = (),
        tiles: Sequence[int] | None = None,
        with_part: bool = False,
        learns_classes: bool = True,
    ) -> None:
        """`annotations` are the kinds of them that items should have, as in `MethodInfo`.

        `tiles` is the index of the one tile of each sample that is an item; without it, all tiles are items.
        `with_part` adds a "part" (`PartMask`), which the synthesis of defects needs and removes.
        Where a method `learns_classes`, defects of a class that is not among them are neither that nor good surface:
        their pixels, or boxes, are not valid.
        """
        self.view = view
        self.classes = classes
        self.annotations = frozenset(annotations)
        self.transform = transform
        self.with_part = with_part
        self.learns_classes = learns_classes
        self.samples = dataset.samples
        self.cache: ItemCache | None = None
        self.numbered = False  # whether items have their "number"
        self.with_template = all(sample.template is not None for sample in self.samples)
        # Sample and tile of each item.
        self.index = (
            list(enumerate(tiles))
            if tiles is not None
            else [(i, tile) for i, sample in enumerate(self.samples) for tile in range(self._tile_count(sample))]
        )

    def __len__(self) -> int:
        return len(self.index)

    def __getitem__(self, index: int) -> Item:
        item = None if self.cache is None else self.cache.get(index)
        if item is None:
            item = self._read(index)
            if self.cache is not None:
                self.cache.put(index, item)
        changed = item if self.transform is None else self.transform(item)
        if self.numbered:
            changed = {**changed, "number": index if changed["image"] is item["image"] else -1}
        return changed

    def cache_within(self, max_bytes: int) -> int:
        """Keep items after their first use, as many as fit; the bytes that they take. Makes the first one."""
        if len(self) and max_bytes > 0:
            self.cache = ItemCache(self._read(0), len(self), max_bytes)
        return 0 if self.cache is None else self.cache.bytes

    def _read(self, index: int) -> Item:
        """An item without its random changes."""
        number, tile = self.index[index]
        sample = self.samples[number]
        image = read_scaled(sample, self.view)
        whole, valid = crop_view(image, sample, self.view.roi)
        return self._item(sample, image, valid, whole.tiles(self.view.tiling)[tile])

    def _tile_count(self, sample: Sample) -> int:
        if self.view.tiling is None:
            return 1
        if self.view.roi is None:
            header = image_header(sample.image)
            size = (header.height, header.width)
            return len(CropView(size, (0, 0, size[1], size[0])).tiles(self.view.tiling))
        return len(crop_view(read_scaled(sample, self.view), sample, self.view.roi)[0].tiles(self.view.tiling))

    def _item(self, sample: Sample, image: Image, valid: Mask, view: CropView) -> Item:
        size, spec = view.size, self.view.input
        known = has_mask(sample)
        mask = read_defect_mask(sample, size) if known else np.zeros(size, dtype=np.bool_)
        if sample.defective and not mask.any():
            known = False  # an empty mask of a defective part does not say where its defect is
        item: Item = {
            "image": view.input_image(image, spec),
            "valid": torch.from_numpy(view.input_mask(valid, spec)),
            "label": label_index(sample, self.classes),
            "mask": torch.from_numpy(view.input_mask(mask, spec)),
            "has_mask": known,
        }
        item["defective"] = has_valid_defect(item) if known else self._image_target(sample)
        if "label" in self.annotations:
            item["present"], item["has_label"] = class_presence(sample, self.classes)
        if "mask" in self.annotations:
            item["mask_labels"] = mask_targets(sample, self.classes, view, spec)
        if {"mask", "boxes"} <= self.annotations:
            item["boxes"], item["box_masks"] = instance_targets(sample, self.classes, view, spec)
            item["has_boxes"] = known
        elif "boxes" in self.annotations:
            item["boxes"] = box_targets(sample, self.classes, view, spec)
            # Visible boxes are known; only where there is none, the whole image decides.
            item["has_boxes"] = len(item["boxes"]) > 0 or known_boxes(sample, size) is not None
        if self.learns_classes:
            inspected = item["valid"]
            self._ignore_unknown_classes(item, sample, view)
            if {"label", "mask"} <= self.annotations and self.view.tiling is not None:
                # The image's class is not that of its sound tiles.
                labels, known = item["mask_labels"][inspected], known and torch.equal(inspected, item["valid"])
                item["label"], item["present"], item["has_label"] = tile_classes(labels, known, self.classes)
        if self.with_part:
            item["part"] = crop_part_mask(image, valid, view, spec)
        if self.with_template:
            item["template"] = view.input_image(scale_pixels(read_reference(sample, size), spec.pixels), spec)
            item["differs"] = torch.from_numpy(view.input_mask(defect_mask(sample, size), spec))
        return item

    def _ignore_unknown_classes(self, item: Item, sample: Sample, view: CropView) -> None:
        """Take defects of unknown class out of the valid pixels; an item with no other box has unknown boxes."""
        if not {"mask", "boxes"} & self.annotations:
            return
        boxed = "boxes" in self.annotations
        unknown = unknown_class_pixels(sample, self.classes, view, self.view.input, boxed)
        if unknown is None:
            return
        item["valid"] = item["valid"] & ~torch.from_numpy(unknown)
        if boxed and unknown.any() and not len(item["boxes"]):
            item["has_boxes"] = False

    def _image_target(self, sample: Sample) -> int:
        """Value of "defective" without a mask: 1 or 0, or -1 where unknown, such as for a tile of a defective image."""
        if sample.defective is None or (sample.defective and self.view.tiling is not None):
            return -1
        return int(sample.defective)


def read_scaled(sample: Sample, view: View) -> Image:
    """The image of a sample (H, W, C), its values at the scale of the training images."""
    return scale_pixels(read_image(sample.image), view.input.pixels)


def crop_view(image: Image, sample: Sample, roi: Roi | None) -> tuple[CropView, Mask]:
    """The crop that the region of interest takes of an image, and the valid pixels (H, W) of the whole image."""
    size = (image.shape[0], image.shape[1])
    valid = valid_mask(sample, size)
    if roi is None:
        return CropView(size, (0, 0, size[1], size[0])), valid
    location = locate_part_in_file(image, sample, roi)
    height, width = location.valid.shape
    box = location.box if location.rotated is None else (0, 0, width, height)
    return CropView(size, box, location.rotated), valid & location.valid_pixels(size)


def crop_part_mask(image: Image, valid: Mask, view: CropView, spec: InputSpec) -> PartMask:
    """Mask of the part inside the crop, and the extent of the whole part, both in pixels of the network's input."""
    whole = find_part_mask(to_unit(image)) & valid
    height, width = view.shape
    scales = spec.height / height, spec.width / width
    scale = min(scales) if spec.fit == "letterbox" else sum(scales) / 2
    return PartMask(view.input_mask(whole, spec), scale * part_extent(whole))


def has_valid_defect(item: Item) -> int:
    """Value of "defective" for an item with a known mask: 1 where any valid pixel belongs to a defect, else 0."""
    return int((item["mask"] & item["valid"]).any())


def defect_mask(sample: Sample, size: tuple[int, int]) -> Mask:
    """Pixels (H, W) of defects by the mask and the boxes of a sample; boxes are filled."""
    mask = read_defect_mask(sample, size) if has_mask(sample) else np.zeros(size, np.bool_)
    return mask | filled_boxes(known_boxes(sample, size) or (), size)


class RankSampler(Sampler[int]):
    """The share of the items of each rank: all ranks together have each item once."""

    def __init__(self, items: ImageItems) -> None:
        self.total = len(items)

    def __iter__(self) -> Iterator[int]:
        return iter(self._own())

    def __len__(self) -> int:
        return len(self._own())

    def _own(self) -> range:
        rank, world = (dist.get_rank(), dist.get_world_size()) if dist.is_initialized() else (0, 1)
        return range(rank, self.total, world)


def loader(
    items: ImageItems,
    batch_size: int,
    *,
    shuffle: bool,
    workers: int,
    seed: int,
    weights: Sequence[float] | None = None,
) -> DataLoader[Item]:
    """Batches of items: in order, shuffled by the seed, or as many as there are sampled by `weights` of the items."""
    generator = torch.Generator().manual_seed(seed)
    sampler: Sampler[int] | None = None if shuffle else RankSampler(items)
    if weights is not None:
        sampler = WeightedRandomSampler(weights, len(items), generator=generator)
    return DataLoader(
        items,
        batch_size=batch_size,
        shuffle=sampler is None or None,
        sampler=sampler,
        num_workers=workers,
        persistent_workers=workers > 0,
        collate_fn=collate,
        generator=generator,
    )


def collate(items: list[Item]) -> Item:
    """One batch of several items; the values of RAGGED keys stay lists."""
    batch = default_collate([{k: v for k, v in item.items() if k not in RAGGED} for item in items])
    return {**batch, **{key: [item[key] for item in items] for key in RAGGED if key in items[0]}}
