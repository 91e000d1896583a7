"""From samples to batches of tensors, by the very same preparation that the inspector uses."""

from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import torch.distributed as dist
from numpy.typing import NDArray
from torch.utils.data import DataLoader, Sampler, WeightedRandomSampler, default_collate
from torch.utils.data import Dataset as TorchDataset

from blemish.dataset.ground_truth import has_mask, known_boxes, mask_of
from blemish.dataset.reference_image import read_template
from blemish.dataset.sample import Dataset, Sample
from blemish.dataset.valid_mask import valid_mask
from blemish.imaging.part_locator import counting
from blemish.imaging.prepare import to_unit
from blemish.imaging.read import image_header, read_image
from blemish.imaging.tiling import tile_boxes
from blemish.inspection.load import place_in
from blemish.inspection.manifest import InputSpec, Roi, Tiling
from blemish.methods.base import Item
from blemish.synthesis.scene import PartMask, find_part_mask, part_extent
from blemish.training.learn.targets import Seen, boxes_in, instances_in, label_index, mask_labels_in, present_in

Pixels = NDArray[Any]
LISTS = ("boxes", "box_masks")  # of another length for each image


@dataclass(frozen=True)
class View:
    """How the network sees an image: its region of interest, its tiles, and the input's shape."""

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
        truth: Collection[str] = (),
        tiles: Sequence[int] | None = None,
        with_part: bool = False,
    ) -> None:
        """`tiles` names the one tile of each sample that is an item; without it, all of them are.

        `with_part` gives items a "part", as of synthetic defects, for the transform to take away.
        """
        self.view = view
        self.classes = classes
        self.truth = frozenset(truth)
        self.transform = transform
        self.with_part = with_part
        self.samples = dataset.samples
        self.with_template = all(sample.template is not None for sample in self.samples)
        if tiles is not None:
            self.places = list(enumerate(tiles))
            return
        self.places = [(i, tile) for i, sample in enumerate(self.samples) for tile in range(self._tile_count(sample))]

    def __len__(self) -> int:
        return len(self.places)

    def __getitem__(self, index: int) -> Item:
        number, tile = self.places[index]
        sample = self.samples[number]
        image = read_image(sample.image)
        seen, valid = self._seen(image, sample, tile)
        item = self._item(sample, image, valid, seen)
        return item if self.transform is None else self.transform(item)

    def _tile_count(self, sample: Sample) -> int:
        if self.view.tiling is None:
            return 1
        if self.view.roi is None:
            header = image_header(sample.image)
            size = (header.height, header.width)
        else:
            size = place_in(read_image(sample.image), sample, self.view.roi).inside.shape
        return len(tile_boxes(*size, self.view.tiling.height, self.view.tiling.width, self.view.tiling.overlap))

    def _seen(self, image: Pixels, sample: Sample, tile: int) -> tuple[Seen, NDArray[np.bool_]]:
        """The part of the image that is seen, and which pixels of the whole image count."""
        size = (image.shape[0], image.shape[1])
        valid = valid_mask(sample, size)
        seen = whole = Seen(size, (0, 0, size[1], size[0]))
        if self.view.roi is not None:
            place = place_in(image, sample, self.view.roi)
            valid = valid & counting(place, size)
            height, width = place.inside.shape
            whole = Seen(size, (0, 0, width, height), place.turned) if place.turned else Seen(size, place.box)
            seen = whole
        if self.view.tiling is not None:
            tiling = self.view.tiling
            x0, y0, x1, y1 = whole.area
            tiles = tile_boxes(y1 - y0, x1 - x0, tiling.height, tiling.width, tiling.overlap)
            tx0, ty0, tx1, ty1 = tiles[tile]
            seen = Seen(size, (x0 + tx0, y0 + ty0, x0 + tx1, y0 + ty1), whole.turned)
        return seen, valid

    def _item(self, sample: Sample, image: Pixels, valid: NDArray[np.bool_], seen: Seen) -> Item:
        size, spec = seen.size, self.view.input
        known = has_mask(sample)
        mask = mask_of(sample, size) if known else np.zeros(size, dtype=np.bool_)
        if sample.defective and not mask.any():
            known = False  # an empty mask of a defective part does not tell where its defect is
        item: Item = {
            "image": seen.image(image, spec),
            "valid": torch.from_numpy(seen.mask(valid, spec)),
            "label": label_index(sample, self.classes),
            "mask": torch.from_numpy(seen.mask(mask, spec)),
            "has_mask": known,
        }
        item["defective"] = shows_defect(item) if known else self._told(sample)
        if "label" in self.truth:
            item["present"], item["has_label"] = present_in(sample, self.classes)
        if "mask" in self.truth:
            item["mask_labels"] = mask_labels_in(sample, self.classes, seen, spec)
        if {"mask", "boxes"} <= self.truth:
            item["boxes"], item["box_masks"] = instances_in(sample, self.classes, seen, spec)
            item["has_boxes"] = known
        elif "boxes" in self.truth:
            item["boxes"] = boxes_in(sample, self.classes, seen, spec)
            # Boxes that are seen are known; only where none is, the whole image is asked.
            item["has_boxes"] = len(item["boxes"]) > 0 or known_boxes(sample, size) is not None
        if self.with_part:
            item["part"] = seen_part(image, valid, seen, spec)
        if self.with_template:
            item["template"] = seen.image(read_template(sample, size), spec)
            item["differs"] = torch.from_numpy(seen.mask(known_defects(sample, size), spec))
        return item

    def _told(self, sample: Sample) -> int:
        """What is known without a mask: 1 defective, 0 good, -1 unknown, as of a part of a defective image."""
        if sample.defective is None or (sample.defective and self.view.tiling is not None):
            return -1
        return int(sample.defective)


def seen_part(image: Pixels, valid: NDArray[np.bool_], seen: Seen, spec: InputSpec) -> PartMask:
    """The part of a whole image as far as it is seen, and its extent as large as the network sees it."""
    whole = find_part_mask(to_unit(image)) & valid
    x0, y0, x1, y1 = seen.area
    scales = spec.height / (y1 - y0), spec.width / (x1 - x0)
    scale = min(scales) if spec.fit == "letterbox" else sum(scales) / 2
    return PartMask(seen.mask(whole, spec), scale * part_extent(whole))


def shows_defect(item: Item) -> int:
    """Of an item whose mask is known, "defective": 1 where any pixel that counts is of a defect, else 0."""
    return int((item["mask"] & item["valid"]).any())


def known_defects(sample: Sample, size: tuple[int, int]) -> NDArray[np.bool_]:
    """Pixels (H, W) that are defective as far as masks and boxes tell, boxes all filled."""
    found = mask_of(sample, size) if has_mask(sample) else np.zeros(size, np.bool_)
    for box in known_boxes(sample, size) or ():
        found[int(box.y0) : int(np.ceil(box.y1)), int(box.x0) : int(np.ceil(box.x1))] = True
    return found


class RankSampler(Sampler[int]):
    """Each rank's own share of the items, none twice: what is collected over all ranks is the whole set, once."""

    def __init__(self, items: ImageItems) -> None:
        self.total = len(items)

    def __iter__(self) -> Iterator[int]:
        rank, world = (dist.get_rank(), dist.get_world_size()) if dist.is_initialized() else (0, 1)
        return iter(range(rank, self.total, world))

    def __len__(self) -> int:
        rank, world = (dist.get_rank(), dist.get_world_size()) if dist.is_initialized() else (0, 1)
        return len(range(rank, self.total, world))


def loader(
    items: ImageItems,
    batch_size: int,
    *,
    shuffle: bool,
    workers: int,
    seed: int,
    weights: Sequence[float] | None = None,
) -> DataLoader[Item]:
    """Batches of items: in order; shuffled by the seed; or drawn by the weights of the items, as many as there are."""
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
    """One batch of several items; what has another length for each image stays a list."""
    batch = default_collate([{k: v for k, v in item.items() if k not in LISTS} for item in items])
    return {**batch, **{key: [item[key] for item in items] for key in LISTS if key in items[0]}}
