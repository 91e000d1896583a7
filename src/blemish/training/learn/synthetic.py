"""Synthetic defects during training: the steps of a defect specification, applied to items of the data loader."""

from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor
from torchvision.transforms import Compose

from blemish.arrays import FloatImage
from blemish.dataset.ground_truth import find_defect_classes, has_mask
from blemish.dataset.sample import DEFECT, GOOD, Dataset, Sample
from blemish.errors import DataError, OptionError
from blemish.geometry import connected_regions, mask_bounds
from blemish.inspection.stitching import defect_names
from blemish.methods.base import Item, Method
from blemish.methods.few_shot.embedding import FewShotMethod
from blemish.synthesis.apply import apply
from blemish.synthesis.cutouts import MAX_CUTOUT_SHARE, DefectCutout, cut_out
from blemish.synthesis.defect_spec import DefectSpec, DefectStep, Paste, check_pastes, spec_labels, with_default_label
from blemish.synthesis.geometric import WarpMap, warp_image, warp_mask, warp_valid
from blemish.synthesis.scene import SyntheticDefect, dominant_label
from blemish.synthesis.textures import check_textures
from blemish.training.learn.data import ImageItems, View, has_valid_defect
from blemish.training.learn.supervision import learns_from_good_only

Transform = Callable[[Item], Item]
MAX_TRIALS = 50  # attempts at a defect before training
MAX_CUTOUTS = 400  # real defects of a class kept for pasting


def classes_with_synthetic(spec: DefectSpec | None, dataset: Dataset) -> tuple[str, ...]:
    """The classes of the data and those that the specification adds, sorted, GOOD first."""
    if spec is None:
        return dataset.classes
    added = spec_labels(with_default_label(spec, dataset.defect_classes))
    return tuple(sorted({*dataset.classes, *added}, key=lambda name: (name != GOOD, name)))


def check_defect_spec(spec: DefectSpec, dataset: Dataset, method: type[Method]) -> None:
    """Raise OptionError or DataError where the method or the training images do not fit the specification."""
    if learns_from_good_only(method):
        raise OptionError(
            f"{method.info.name} is trained on good images alone and would take synthetic defects for good; "
            "leave --synthetic out, or choose a method trained on defects, such as unet"
        )
    check_textures(spec)
    training = dataset.split("train").samples
    if not any(s.defective is False for s in training):
        raise DataError("synthetic defects are put on good images and there are none in training; label some 'good'")
    check_pastes(spec, classes_with_mask(training))
    real = {name for s in training if s.defective for name in find_defect_classes(s) or ()}
    synthetic = spec_labels(with_default_label(spec, dataset.defect_classes))
    if not synthetic and not any(s.defective for s in training):
        raise OptionError(
            "the specification makes no defect and there are none in training; add a step such as scratch"
        )
    if issubclass(method, FewShotMethod) and (unseen := sorted(set(synthetic) - real)):
        raise OptionError(
            f"{method.info.name} compares with real images in the end; none are there of {', '.join(unseen)}: give "
            "the step the label of a class that has some, or choose a method such as classifier"
        )


def with_synthetic_labels(spec: DefectSpec, dataset: Dataset) -> Dataset:
    """The training images, for counting classes: a share of the good ones repeated with the synthetic classes.

    Only labels change, so it is not for training.
    """
    names = sorted({*spec_labels(with_default_label(spec, dataset.defect_classes)), *pasted_labels(spec, dataset)})
    good = [s for s in dataset.samples if s.label == GOOD or s.defective is False]
    count = min(len(good), max(2, round(spec.share * len(good) / max(1, len(names)))))
    synthetic = [replace(good[i], label=name) for name in names for i in range(count)]
    return dataset.with_samples([*dataset.samples, *synthetic])


def pasted_labels(spec: DefectSpec, dataset: Dataset) -> set[str]:
    """The classes of real defects that the specification pastes under their own names."""
    cuttable = classes_with_mask(dataset.samples)
    steps = [step for step in spec.steps if isinstance(step, Paste) and step.label is None]
    return {name for step in steps for name in cuttable if not step.classes or name in step.classes}


def classes_with_mask(samples: Iterable[Sample]) -> set[str]:
    """The classes of defects that have a mask to cut them out."""
    return {name for s in samples if s.defective and has_mask(s) for name in _mask_classes(s)}


def _mask_classes(sample: Sample) -> set[str]:
    named = {shape.label for shape in sample.shapes or ()} | set(sample.mask_classes or ())
    return named or {sample.label or DEFECT}


def make_synthesis(
    spec: DefectSpec, dataset: Dataset, view: View, classes: tuple[str, ...], augmentation: Transform | None
) -> Transform:
    """Put synthetic defects on items of the training images, then apply the method's own augmentation, if any."""
    defects = tuple(defect_names(classes))
    items = ImageItems(dataset, view, classes, annotations=("mask",), with_part=needs_part_mask(spec, view))
    cutouts = collect_cutouts(items, defects) if spec.has_paste else []
    if spec.has_paste and not cutouts:
        raise DataError(
            "the specification pastes real defects, and all with a mask are too small to cut out, or cover more than "
            f"{MAX_CUTOUT_SHARE:.0%} of the network's input"
        )
    check_defects_fit(spec, items, cutouts)
    synthesiser = Synthesiser(spec, classes, cutouts)
    return synthesiser if augmentation is None else Compose([synthesiser, augmentation])


def needs_part_mask(spec: DefectSpec | None, view: View) -> bool:
    """Whether items must hold the part's mask: a single tile shows neither the part nor its extent."""
    return spec is not None and spec.part == "auto" and view.tiling is not None


def check_defects_fit(spec: DefectSpec, items: ImageItems, cutouts: list[DefectCutout]) -> None:
    """Raise DataError where no step makes a defect that fits and is visible on any of some good images.

    Otherwise training would go on without a defect, and without a message.
    """
    steps = [step.model_copy(update={"p": 1.0}) for step in spec.steps if isinstance(step, DefectStep) and step.p]
    good = [i for i, (sample, _) in enumerate(items.index) if items.samples[sample].defective is False]
    if not steps or not good:
        return
    certain = spec.model_copy(update={"steps": tuple(steps), "pick": None})
    trials = 0
    for index in np.resize(np.random.default_rng(0).permutation(good), max(MAX_TRIALS, len(good))):
        item = items[int(index)]
        image, valid = item["image"].numpy().transpose(1, 2, 0), item["valid"].numpy()
        if not valid.any():  # a tile outside the region of interest
            continue
        if apply(certain, image, (trials,), valid=valid, cuts=cutouts, part=item.get("part")).defects:
            return
        trials += 1
        if trials == MAX_TRIALS:
            break
    raise DataError(
        f"{trials} attempts at a defect by the specification made none that fits on the part and is visible, on good "
        f"images as the network sees them, {image.shape[1]} px wide; make its lengths smaller or its strengths larger"
    )


class Synthesiser:
    """Put synthetic defects on a share of the good items; change all items alike where the specification says so.

    Randomness is torch's global one, so that the loader's workers differ and a seeded run repeats.
    """

    def __init__(self, spec: DefectSpec, classes: tuple[str, ...], cutouts: list[DefectCutout]) -> None:
        defects = tuple(defect_names(classes))
        self.spec, self.cutouts = with_default_label(spec, defects), cutouts
        self.classes, self.defects = classes, defects
        extra = [name for name in spec_labels(self.spec) if name not in defects]
        if extra or GOOD not in classes:
            raise OptionError(
                f"the specification makes {', '.join(extra) or 'defects'} and the method has {', '.join(classes)}; "
                "name one of its classes with `label:` in the step"
            )

    def __call__(self, item: Item) -> Item:
        chance = torch.rand(()).item()
        seed = int(torch.randint(2**62, ()))
        defects = int(item["label"]) == self.classes.index(GOOD) and chance < self.spec.share
        part = item.get("part")
        item = {key: value for key, value in item.items() if key != "part"} if part is not None else item
        if not defects and not self.spec.changes_images:
            return item
        image, valid = item["image"].numpy().transpose(1, 2, 0), item["valid"].numpy()  # invalid: letterbox bars, too
        scene = apply(self.spec, image, (seed,), valid=valid, cuts=self.cutouts, defects=defects, part=part)
        changed = dict(item)
        for warp in scene.warps:
            _warp(changed, warp)
        changed["image"] = _to_tensor(scene.image)
        if scene.defects:
            self._add(changed, scene.defects)
        return changed

    def _add(self, item: Item, defects: list[SyntheticDefect]) -> None:
        item["label"], item["defective"] = self.classes.index(dominant_label(defects)), 1
        masks = torch.from_numpy(np.stack([defect.mask for defect in defects]))
        item["mask"] = item["mask"] | masks.any(dim=0)
        numbers = [self.defects.index(defect.label) for defect in defects]
        if "present" in item:
            item["present"] = item["present"].index_fill(0, torch.tensor(numbers), True)
        if "mask_labels" in item:
            labels = item["mask_labels"].clone()
            for number, mask in zip(numbers, masks, strict=True):
                labels[mask] = number + 1
            item["mask_labels"] = labels
        if "boxes" in item:
            boxes = [[*(mask_bounds(d.mask) or ()), float(n)] for n, d in zip(numbers, defects, strict=True)]
            item["boxes"] = torch.cat([item["boxes"], torch.tensor(boxes, dtype=torch.float32)])
        if "box_masks" in item:
            item["box_masks"] = torch.cat([item["box_masks"], masks])


def collect_cutouts(items: ImageItems, defects: tuple[str, ...]) -> list[DefectCutout]:
    """Real defects in the network's geometry, cut out of items with "mask_labels"."""
    cutouts: list[DefectCutout] = []
    counts = Counter[str]()
    for index, (number, _) in enumerate(items.index):
        sample = items.samples[number]
        if not sample.defective or not (item := items[index])["has_mask"]:
            continue
        image, labels = item["image"].numpy().transpose(1, 2, 0), item["mask_labels"].numpy()
        for label, name in enumerate(defects, 1):
            for region in connected_regions(labels == label):
                if counts[name] < MAX_CUTOUTS and (cutout := cut_out(image, region, name, str(sample.image))):
                    counts[name] += 1
                    cutouts.append(cutout)
    return cutouts


def _warp(item: Item, warp: WarpMap) -> None:
    """Warp all masks, boxes and the template of an item as its image was warped."""
    item["valid"] = torch.from_numpy(warp_valid(item["valid"].numpy(), warp))
    item["mask"] = torch.from_numpy(warp_mask(item["mask"].numpy(), warp))
    if item["has_mask"]:
        item["defective"] = has_valid_defect(item)
    if "template" in item:
        item["template"] = _to_tensor(warp_image(item["template"].numpy().transpose(1, 2, 0), warp))
    if "mask_labels" in item:
        labels = item["mask_labels"].numpy()
        moved = np.zeros_like(labels)
        for number in np.unique(labels[labels > 0]):
            moved[warp_mask(labels == number, warp)] = number
        item["mask_labels"] = torch.from_numpy(moved)
    if "boxes" in item:
        _warp_boxes(item, warp)


def _warp_boxes(item: Item, warp: WarpMap) -> None:
    """Bound each warped defect, or warped box, by a box again; one that moves out of the image is dropped."""
    height, width = item["image"].shape[-2:]
    boxes, masks = [], []
    for number, box in enumerate(item["boxes"]):
        if "box_masks" in item:
            mask = item["box_masks"][number].numpy()
        else:
            mask = np.zeros((height, width), np.bool_)
            x0, y0, x1, y1 = (round(v) for v in box[:4].tolist())
            mask[max(0, y0) : max(y1, y0 + 1), max(0, x0) : max(x1, x0 + 1)] = True
        mask = warp_mask(mask, warp)
        bounds = mask_bounds(mask)
        if bounds is not None:
            boxes.append([*bounds, float(box[4])])
            masks.append(torch.from_numpy(mask))
    item["boxes"] = torch.tensor(boxes, dtype=torch.float32).reshape(-1, 5)
    if "box_masks" in item:
        item["box_masks"] = torch.stack(masks) if masks else item["box_masks"][:0]


def _to_tensor(image: FloatImage) -> Tensor:
    return torch.from_numpy(np.ascontiguousarray(image.transpose(2, 0, 1), dtype=np.float32))
