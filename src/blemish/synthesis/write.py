"""A data set of synthetic defects on disk: images, masks, a CSV manifest, what made each defect, a contact sheet."""

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import yaml
from numpy.typing import NDArray

from blemish.dataset.sample import Dataset, Sample
from blemish.dataset.split import ensure_splits
from blemish.dataset.valid_mask import valid_mask
from blemish.dataset.write import write_csv
from blemish.errors import BlemishError, DataError, ImageError, OptionError
from blemish.imaging.part_locator import counting
from blemish.imaging.prepare import to_unit
from blemish.imaging.read import read_image, write_image
from blemish.inspection.load import place_in
from blemish.inspection.manifest import Roi
from blemish.synthesis.apply import apply, scale_used
from blemish.synthesis.cuts import cuts_of
from blemish.synthesis.geometric import warp_valid
from blemish.synthesis.recipe import Recipe, check_pastes, with_default_label
from blemish.synthesis.scene import Scene, main_label
from blemish.synthesis.sheet import cell, contact_sheet
from blemish.synthesis.textures import check_textures

ATTEMPTS = 50  # good images and seeds tried for one image with a defect
SHEET = 24  # images on the contact sheet

Drawn = tuple[Sample, tuple[int, ...], Scene]  # good image, seed, and what became of it


@dataclass(frozen=True)
class Written:
    dataset: Dataset
    counts: dict[str, int]  # images by class
    sheet: Path
    stopped: str  # why there are fewer than were asked for, if so


def write_augmented(
    data: Dataset,
    out: str | Path,
    recipe: Recipe,
    count: int,
    seed: int = 0,
    *,
    include: bool = False,
    roi: Roi | None = None,
    progress: Callable[[], None] = lambda: None,
) -> Written:
    """Write `count` images with synthetic defects on good training images of `data`; the same seed, the same files.

    OUT/dataset.csv lists them (split train, each with the images that it was made of as its `sources`, and what its
    surface tells: group, product, template, pixels that count), and with `include` the images of `data` too, which are
    split first where they are not; OUT/defects.jsonl has one line a defect: image, class, step of the recipe, seed,
    box, area and what was drawn. Only training images lend their surface or their defects, and defects lie within
    `roi`. Where one cannot be made, those before it are still listed, and `stopped` says why. Raises DataError where
    there is nothing good to draw on or not even the first can be made, OptionError for a texture that is not there or
    a recipe without defects, ImageError where `roi` is to be found in the first image and is not.
    """
    out = Path(out)
    if out.exists() and not out.is_dir():
        raise DataError(f"'{out}' is a file; name a folder to write to")
    if out.exists() and any(out.iterdir()):
        raise DataError(f"'{out}' is not empty; choose a new folder, so that nothing is mixed or overwritten")
    if include:
        data = ensure_splits(data, seed, need_defects_in_training=True)
    training = [s for s in data.samples if s.split in (None, "train")]
    good = [s for s in training if s.defective is False]
    if not good:
        raise DataError("there are no good training images to put defects on; label some 'good'")
    if not recipe.draws:
        raise OptionError(
            "the recipe makes no defect, for all its steps change whole images; add one such as {kind: scratch}, or "
            "give the recipe to `blemish train --synthetic`, which changes the images it learns from"
        )
    cuts = cuts_of(s for s in training if s.sources is None) if recipe.pastes else []
    check_pastes(recipe, {piece.label for piece in cuts})
    recipe = with_default_label(recipe, data.defect_classes)
    check_textures(recipe)
    first = _one(good, recipe, cuts, roi, seed, 0)  # it may be that no defect fits, and then nothing is written
    for folder in ("images", "masks"):
        (out / folder).mkdir(parents=True, exist_ok=True)
    (out / "recipe.yaml").write_text(yaml.safe_dump(recipe.model_dump(mode="json"), sort_keys=False), encoding="utf-8")
    samples, cells = [], []
    stopped = ""
    with (out / "defects.jsonl").open("w", encoding="utf-8") as lines:
        for number in range(count):
            try:
                source, own_seed, scene = first if number == 0 else _one(good, recipe, cuts, roi, seed, number)
            except BlemishError as error:
                stopped = str(error)
                break
            sample = _write_image(out, number, source, scene)
            samples.append(sample)
            for line in _lines(out, sample, source, own_seed, scene):
                lines.write(json.dumps(line, ensure_ascii=False) + "\n")
            if len(cells) < SHEET:
                cells.append(cell(scene))
            progress()
    dataset = Dataset((*samples, *(data.samples if include else ())), out, "csv")
    write_csv(dataset, out / "dataset.csv", relative=True)
    sheet = out / "contact-sheet.png"
    write_image(sheet, contact_sheet(cells))
    labels = sorted({str(s.label) for s in samples})
    return Written(dataset, {name: sum(s.label == name for s in samples) for name in labels}, sheet, stopped)


def _one(good: list[Sample], recipe: Recipe, cuts: list[Any], roi: Roi | None, seed: int, number: int) -> Drawn:
    for attempt in range(ATTEMPTS):
        own = (seed, number, attempt)
        sample = good[int(np.random.default_rng(own).integers(len(good)))]
        try:
            pixels = read_image(sample.image)
        except ImageError:  # the audit's business; others are there
            continue
        image, size = to_unit(pixels), (pixels.shape[0], pixels.shape[1])
        valid = valid_mask(sample, size) if sample.roi or sample.ignore or roi else None
        if valid is not None and roi is not None:
            valid &= counting(place_in(pixels, sample, roi), size)
        # Files of 16 bits often hold 12; a dark picture of 8 bits is just dark.
        level = scale_used(image, cuts) if pixels.dtype == np.uint16 else 1.0
        scene = apply(recipe, image, own, valid=valid, cuts=cuts, level=level)
        if scene.defects:
            return sample, own, scene
    raise DataError(
        f"{ATTEMPTS} attempts at a defect made none that fits on the part and can be seen; make the recipe's lengths "
        "smaller, its strengths larger, or its probabilities higher"
    )


def _write_image(out: Path, number: int, source: Sample, scene: Scene) -> Sample:
    mask_path, kind = out / "masks" / f"{number:05}.png", read_image(source.image).dtype
    # A TIFF where a PNG holds no such pixels: they shall not tell a drawn image from a real one.
    suffix = ".png" if kind.kind == "u" and scene.image.shape[2] in (1, 3) else ".tif"
    path = out / "images" / f"{number:05}{suffix}"
    depth = {"uint8": 255, "uint16": 65535}.get(str(kind))
    write_image(path, scene.image if depth is None else np.round(scene.image * depth).astype(kind))
    names = sorted({defect.label for defect in scene.defects})
    values = np.zeros(scene.image.shape[:2], np.uint8)
    for defect in scene.defects:
        values[defect.mask] = 255 if len(names) == 1 else names.index(defect.label) + 1
    write_image(mask_path, values[..., None])
    valid = _counting(source, scene)
    roi = None if valid.all() else out / "rois" / f"{number:05}.png"
    if roi is not None:
        roi.parent.mkdir(exist_ok=True)
        write_image(roi, 255 * valid.astype(np.uint8)[..., None])
    pasted = {Path(defect.details["from"]) for defect in scene.defects if "from" in defect.details}
    return Sample(
        path,
        main_label(scene.defects),
        "train",
        mask_path,
        tuple(names) if len(names) > 1 else None,
        template=None if scene.warps else source.template,
        roi=roi,
        group=source.group,
        product=source.product,
        sources=(source.image, *sorted(pasted - {source.image})),
    )


def _counting(source: Sample, scene: Scene) -> NDArray[np.bool_]:
    """Pixels (H, W) that count where the source's region of interest and ignored pixels have moved with the image.

    What a step moved in from beyond the border does not count, as on the fly.
    """
    valid = valid_mask(source, scene.image.shape[:2])
    for where in scene.warps:
        valid = warp_valid(valid, where)
    return valid


def _lines(out: Path, sample: Sample, source: Sample, seed: tuple[int, ...], scene: Scene) -> list[dict[str, Any]]:
    lines = []
    for defect in scene.defects:
        x, y, width, height = cv2.boundingRect(defect.mask.astype(np.uint8))
        lines.append(
            {
                "image": sample.image.relative_to(out).as_posix(),
                "surface": str(source.image),
                "image_seed": list(seed),
                "class": defect.label,
                "kind": defect.kind,
                "step": defect.step,
                "seed": list(defect.seed),
                "box": [x, y, x + width, y + height],
                "area_px": int(defect.mask.sum()),
                **defect.details,
            }
        )
    return lines
