"""Synthetic defects while learning: the steps of a recipe on the items of the data loader."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from typing import Any

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from blemish.dataset.ground_truth import classes_shown, has_mask
from blemish.dataset.sample import DEFECT, GOOD, Dataset, Sample
from blemish.errors import DataError, OptionError
from blemish.geometry import mask_bounds
from blemish.methods.base import Item, Method
from blemish.methods.few_shot.embedding import FewShotMethod
from blemish.synthesis.apply import apply
from blemish.synthesis.cutouts import DefectCutout, cut_out
from blemish.synthesis.defect_spec import DefectSpec, DefectStep, Paste, check_pastes, spec_labels, with_default_label
from blemish.synthesis.geometric import WarpMap, warp_image, warp_mask, warp_valid
from blemish.synthesis.scene import SyntheticDefect, dominant_label
from blemish.synthesis.textures import check_textures
from blemish.training.learn.data import ImageItems, View, shows_defect
from blemish.training.learn.supervision import good_alone

Transform = Callable[[Item], Item]
TRIALS = 50  # attempts at a defect before learning
MOST_CUTS = 400  # real defects of a class held for pasting


def classes_with(recipe: DefectSpec | None, dataset: Dataset) -> tuple[str, ...]:
    """The data's classes and those that the recipe adds, sorted, GOOD first."""
    if recipe is None:
        return dataset.classes
    added = spec_labels(with_default_label(recipe, dataset.defect_classes))
    return tuple(sorted({*dataset.classes, *added}, key=lambda name: (name != GOOD, name)))


def check_recipe(recipe: DefectSpec, dataset: Dataset, method: type[Method]) -> None:
    """Raises OptionError or DataError where the method, or the training images, cannot do with the recipe."""
    if good_alone(method):
        raise OptionError(
            f"{method.info.name} learns from good images alone and would take synthetic defects for good; "
            "leave --synthetic out, or choose a method that learns from defects, such as unet"
        )
    check_textures(recipe)
    training = dataset.split("train").samples
    if not any(s.defective is False for s in training):
        raise DataError("synthetic defects are put on good images and there are none in training; label some 'good'")
    check_pastes(recipe, cuttable(training))
    real = {name for s in training if s.defective for name in classes_shown(s) or ()}
    drawn = spec_labels(with_default_label(recipe, dataset.defect_classes))
    if not drawn and not any(s.defective for s in training):
        raise OptionError("the recipe draws no defect and there are none to learn from; add a step such as scratch")
    if issubclass(method, FewShotMethod) and (alone := sorted(set(drawn) - real)):
        raise OptionError(
            f"{method.info.name} compares with real images in the end, and there are none of {', '.join(alone)}; give "
            "the step the label of a class that has some, or choose a method such as classifier"
        )


def with_drawn(recipe: DefectSpec, dataset: Dataset) -> Dataset:
    """The training images as methods that count labels will see them: a share of the good ones under the drawn classes.

    Just the labels are changed; it is for counting, not for learning from.
    """
    names = sorted({*spec_labels(with_default_label(recipe, dataset.defect_classes)), *pasted_labels(recipe, dataset)})
    good = [s for s in dataset.samples if s.label == GOOD or s.defective is False]
    count = min(len(good), max(2, round(recipe.share * len(good) / max(1, len(names)))))
    drawn = [replace(good[i], label=name) for name in names for i in range(count)]
    return dataset.with_samples([*dataset.samples, *drawn])


def pasted_labels(recipe: DefectSpec, dataset: Dataset) -> set[str]:
    """The classes of the defects that the recipe can paste under their own names: those with a mask to cut by."""
    marked = cuttable(dataset.samples)
    steps = [step for step in recipe.steps if isinstance(step, Paste) and step.label is None]
    return {name for step in steps for name in marked if not step.classes or name in step.classes}


def cuttable(samples: Iterable[Sample]) -> set[str]:
    """The classes of the defects with a mask to cut by."""
    return {name for s in samples if s.defective and has_mask(s) for name in _marked_classes(s)}


def _marked_classes(sample: Sample) -> set[str]:
    named = {shape.label for shape in sample.shapes or ()} | set(sample.mask_classes or ())
    return named or {sample.label or DEFECT}


def synthetic_first(
    recipe: DefectSpec, dataset: Dataset, view: View, classes: tuple[str, ...], then: Transform | None
) -> Transform:
    """Synthetic defects on the items of the training images, and then the method's own augmentation, if any."""
    defects = tuple(name for name in classes if name != GOOD)
    items = ImageItems(dataset, view, classes, truth=("mask",), with_part=part_of_tiles(recipe, view))
    cuts = cuts_from(items, defects) if recipe.has_paste else []
    if recipe.has_paste and not cuts:
        raise DataError(
            f"the recipe pastes real defects, and all that are marked are too small to cut out, or cover more than "
            f"{LARGEST:.0%} of what the network sees"
        )
    check_fits(recipe, items, cuts)
    synthesise = Synthesiser(recipe, classes, cuts)
    return synthesise if then is None else Chain(synthesise, then)


def part_of_tiles(recipe: DefectSpec | None, view: View) -> bool:
    """Whether items must tell of the part: in a tile it cannot be made out, nor how large all of it is."""
    return recipe is not None and recipe.part == "auto" and view.tiling is not None


def check_fits(recipe: DefectSpec, items: ImageItems, cuts: list[DefectCutout]) -> None:
    """Raises DataError where no step draws a defect, on any of some good images, that fits and can be seen.

    Learning would go on without a defect, and not say so.
    """
    steps = [step.model_copy(update={"p": 1.0}) for step in recipe.steps if isinstance(step, DefectStep) and step.p]
    good = [i for i, (sample, _) in enumerate(items.places) if items.samples[sample].defective is False]
    if not steps or not good:
        return
    certain = recipe.model_copy(update={"steps": tuple(steps), "pick": None})
    tried = 0
    for view in np.resize(np.random.default_rng(0).permutation(good), max(TRIALS, len(good))):
        item = items[int(view)]
        image, valid = item["image"].numpy().transpose(1, 2, 0), item["valid"].numpy()
        if not valid.any():  # a tile outside the region of interest
            continue
        if apply(certain, image, (tried,), valid=valid, cuts=cuts, part=item.get("part")).defects:
            return
        tried += 1
        if tried == TRIALS:
            break
    raise DataError(
        f"{tried} attempts at a defect by the recipe made none that fits on the part and can be seen, on good images "
        f"as the network sees them, {image.shape[1]} px wide; make its lengths smaller or its strengths larger"
    )


@dataclass(frozen=True)
class Chain:
    """One transform after another."""

    first: Transform
    second: Transform

    def __call__(self, item: Item) -> Item:
        return self.second(self.first(item))


class Synthesiser:
    """Puts synthetic defects on a share of the good items, and changes all items alike where the recipe says so.

    Its randomness is torch's global one, so that the loader's workers differ and a seeded run repeats.
    """

    def __init__(self, recipe: DefectSpec, classes: tuple[str, ...], cuts: list[DefectCutout]) -> None:
        defects = tuple(name for name in classes if name != GOOD)
        self.recipe, self.cuts = with_default_label(recipe, defects), cuts
        self.classes, self.defects = classes, defects
        unknown = [name for name in spec_labels(self.recipe) if name not in defects]
        if unknown or GOOD not in classes:
            raise OptionError(
                f"the recipe makes {', '.join(unknown) or 'defects'} and the method knows {', '.join(classes)}; "
                "name one of its classes with `label:` in the step"
            )

    def __call__(self, item: Item) -> Item:
        draws = torch.rand(()).item()
        seed = int(torch.randint(2**62, ()))
        defects = int(item["label"]) == self.classes.index(GOOD) and draws < self.recipe.share
        part = item.get("part")
        if part is not None:
            item = {key: value for key, value in item.items() if key != "part"}
        if not defects and not self.recipe.changes_images:
            return item
        image = item["image"].numpy().transpose(1, 2, 0)
        scene = apply(
            self.recipe, image, (seed,), valid=item["valid"].numpy(), cuts=self.cuts, defects=defects, part=part
        )  # "valid" is False in a letterbox's border, too
        changed = dict(item)
        for where in scene.warps:
            _warp(changed, where)
        changed["image"] = _image(scene.image)
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
            boxes = [[*(mask_bounds(d.mask) or (0, 0, 0, 0)), float(n)] for n, d in zip(numbers, defects, strict=True)]
            item["boxes"] = torch.cat([item["boxes"], torch.tensor(boxes, dtype=torch.float32)])
        if "box_masks" in item:
            item["box_masks"] = torch.cat([item["box_masks"], masks])


def cuts_from(items: ImageItems, defects: tuple[str, ...]) -> list[DefectCutout]:
    """Real defects in the network's own geometry, cut out of items with "mask_labels"."""
    found: list[DefectCutout] = []
    held = dict.fromkeys(defects, 0)
    for index in range(len(items)):
        sample = items.samples[items.places[index][0]]
        if not sample.defective:
            continue
        item = items[index]
        if not item["has_mask"]:
            continue
        image = item["image"].numpy().transpose(1, 2, 0)
        labels = item["mask_labels"].numpy()
        for number, name in enumerate(defects, 1):
            count, regions = cv2.connectedComponents((labels == number).astype(np.uint8))
            for region in range(1, count):
                piece = cut_out(image, regions == region, name, str(sample.image)) if held[name] < MOST_CUTS else None
                if piece is not None:
                    held[name] += 1
                    found.append(piece)
    return found


def _warp(item: Item, where: WarpMap) -> None:
    """Move all that an item says of places, but for the image, as the image was moved."""
    item["valid"] = torch.from_numpy(warp_valid(item["valid"].numpy(), where))
    item["mask"] = torch.from_numpy(warp_mask(item["mask"].numpy(), where))
    if item["has_mask"]:
        item["defective"] = shows_defect(item)
    if "template" in item:
        item["template"] = _image(warp_image(item["template"].numpy().transpose(1, 2, 0), where))
    if "mask_labels" in item:
        labels = item["mask_labels"].numpy()
        moved = np.zeros_like(labels)
        for number in np.unique(labels[labels > 0]):
            moved[warp_mask(labels == number, where)] = number
        item["mask_labels"] = torch.from_numpy(moved)
    if "boxes" in item:
        _warp_boxes(item, where)


def _warp_boxes(item: Item, where: WarpMap) -> None:
    """Boxes round their moved defects, or round their moved selves; one that is moved off the picture is dropped."""
    height, width = item["image"].shape[-2:]
    boxes, masks = [], []
    for number, box in enumerate(item["boxes"]):
        if "box_masks" in item:
            mask = item["box_masks"][number].numpy()
        else:
            mask = np.zeros((height, width), np.bool_)
            x0, y0, x1, y1 = (round(v) for v in box[:4].tolist())
            mask[max(0, y0) : max(y1, y0 + 1), max(0, x0) : max(x1, x0 + 1)] = True
        mask = warp_mask(mask, where)
        bounds = mask_bounds(mask)
        if bounds is not None:
            boxes.append([*bounds, float(box[4])])
            masks.append(torch.from_numpy(mask))
    item["boxes"] = torch.tensor(boxes, dtype=torch.float32).reshape(-1, 5)
    if "box_masks" in item:
        item["box_masks"] = torch.stack(masks) if masks else item["box_masks"][:0]


def _image(pixels: NDArray[Any]) -> Tensor:
    return torch.from_numpy(np.ascontiguousarray(pixels.transpose(2, 0, 1), dtype=np.float32))
