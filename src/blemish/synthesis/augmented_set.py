"""A data set of synthetic defects on disk: images, masks, a CSV manifest, what made each defect, a contact sheet."""

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from numpy.typing import NDArray

from blemish.arrays import Mask, Picture
from blemish.dataset.info import measure_samples
from blemish.dataset.sample import Dataset, Sample
from blemish.dataset.split import ensure_splits
from blemish.dataset.valid_mask import valid_mask
from blemish.dataset.write import write_csv
from blemish.errors import BlemishError, DataError, ImageError, OptionError
from blemish.geometry import mask_bounds
from blemish.imaging.part_locator import locate_part
from blemish.imaging.pixel_range import PixelSpec, make_pixel_spec, restore_pixels, scale_pixels
from blemish.imaging.prepare import to_unit
from blemish.imaging.read import read_image, write_image
from blemish.imaging.roi import Roi
from blemish.synthesis.apply import apply
from blemish.synthesis.contact_sheet import make_contact_sheet, render_pair
from blemish.synthesis.cutouts import cut_defects
from blemish.synthesis.defect_spec import DefectSpec, check_pastes, with_default_label
from blemish.synthesis.geometric import warp_valid
from blemish.synthesis.scene import SyntheticScene, dominant_label
from blemish.synthesis.synthetic_set import check_new_folder
from blemish.synthesis.textures import check_textures

ATTEMPTS = 50  # good images and seeds tried for one image with a defect
MAX_SHEET = 24  # images on the contact sheet


@dataclass(frozen=True)
class AugmentedSet:
    """The result of `write_augmented`: the files written, and why there are fewer images than requested, if so."""

    dataset: Dataset
    counts: dict[str, int]  # images by class
    sheet: Path
    stopped: str


def write_augmented(
    data: Dataset,
    out: str | Path,
    spec: DefectSpec,
    count: int,
    seed: int = 0,
    *,
    include: bool = False,
    roi: Roi | None = None,
    progress: Callable[[], None] = lambda: None,
) -> AugmentedSet:
    """Write `count` images with synthetic defects on good training images of `data`; the same seed, the same files.

    OUT/dataset.csv lists them (split train, each with the images that it was made of as its `sources`, and the group,
    product, template and valid pixels of its surface), and with `include` the images of `data` too, which are split
    first where they are not; OUT/defects.jsonl has one line for each defect: image, class, step of the specification,
    seed, box, area and its parameters. Surfaces and pasted defects come from training images only, and defects lie
    within `roi`. Where one image cannot be made, those before it are still listed, and `stopped` says why. Raises
    DataError where there is no good image to start from or not even the first can be made, OptionError for a missing
    texture or a specification without defects, ImageError where the part (`roi`) is not found in the first image.
    """
    out = check_new_folder(out)
    if include:
        data = ensure_splits(data, seed, need_defects_in_training=True)
    training = [s for s in data.samples if s.split in (None, "train")]
    good = [s for s in training if s.defective is False]
    if not good:
        raise DataError("there are no good training images to put defects on; label some 'good'")
    if not spec.makes_defects:
        raise OptionError(
            "the specification makes no defect: all its steps change whole images; add one such as {kind: scratch}, or "
            "give the specification to `blemish train --synthetic`, which changes the training images"
        )
    real = [s for s in training if s.sources is None]
    pixels = make_pixel_spec(measure_samples(real))
    cuts = cut_defects(real, pixels) if spec.has_paste else []
    check_pastes(spec, {piece.label for piece in cuts})
    spec = with_default_label(spec, data.defect_classes)
    check_textures(spec)
    first = _make_image(good, spec, cuts, pixels, roi, seed, 0)  # if no defect fits, nothing is written
    for folder in ("images", "masks"):
        (out / folder).mkdir(parents=True, exist_ok=True)
    (out / "spec.yaml").write_text(yaml.safe_dump(spec.model_dump(mode="json"), sort_keys=False), encoding="utf-8")
    samples: list[Sample] = []
    cells: list[Picture] = []
    stopped = ""
    with (out / "defects.jsonl").open("w", encoding="utf-8") as lines:
        for number in range(count):
            try:
                source, own_seed, scene = (
                    first if number == 0 else _make_image(good, spec, cuts, pixels, roi, seed, number)
                )
            except BlemishError as error:
                stopped = str(error)
                break
            sample = _write_image(out, number, source, scene, pixels)
            samples.append(sample)
            for line in _defect_lines(out, sample, source, own_seed, scene):
                lines.write(json.dumps(line, ensure_ascii=False) + "\n")
            if len(cells) < MAX_SHEET:
                cells.append(render_pair(scene))
            progress()
    dataset = Dataset((*samples, *(data.samples if include else ())), out, "csv")
    write_csv(dataset, out / "dataset.csv", relative=True)
    sheet = out / "contact-sheet.png"
    write_image(sheet, make_contact_sheet(cells))
    labels = sorted({str(s.label) for s in samples})
    return AugmentedSet(dataset, {name: sum(s.label == name for s in samples) for name in labels}, sheet, stopped)


def _make_image(
    good: list[Sample],
    spec: DefectSpec,
    cuts: list[Any],
    scale: PixelSpec | None,
    roi: Roi | None,
    seed: int,
    number: int,
) -> tuple[Sample, tuple[int, ...], SyntheticScene]:
    """A good image, its seed, and the scene made of it; DataError where no attempt gives a defect."""
    for attempt in range(ATTEMPTS):
        own = (seed, number, attempt)
        sample = good[int(np.random.default_rng(own).integers(len(good)))]
        try:
            pixels = read_image(sample.image)
        except ImageError:  # reported by the audit; other images will do
            continue
        image, size = to_unit(scale_pixels(pixels, scale)), (pixels.shape[0], pixels.shape[1])
        valid = valid_mask(sample, size) if sample.limits_pixels or roi else None
        if valid is not None and roi is not None:
            valid &= _part_pixels(pixels, sample, roi)
        scene = apply(spec, image, own, valid=valid, cuts=cuts)
        if scene.defects:
            return sample, own, scene
    raise DataError(
        f"{ATTEMPTS} attempts at a defect made none that fits on the part and can be seen; make the lengths "
        "of the specification smaller, its strengths larger, or its probabilities higher"
    )


def _part_pixels(pixels: NDArray[Any], sample: Sample, roi: Roi) -> Mask:
    """Pixels (H, W) of the part, located in an image (H, W, C); an ImageError names its file."""
    try:
        return locate_part(pixels, roi).valid_pixels(pixels.shape[:2])
    except ImageError as error:
        raise ImageError(f"{sample.image}: {error}") from error


def _write_image(out: Path, number: int, source: Sample, scene: SyntheticScene, pixels: PixelSpec | None) -> Sample:
    mask_path, surface = out / "masks" / f"{number:05}.png", read_image(source.image)
    # A TIFF where a PNG cannot hold such pixels: the file must not distinguish a synthetic image from a real one.
    suffix = ".png" if surface.dtype.kind == "u" and scene.image.shape[2] in (1, 3) else ".tif"
    path = out / "images" / f"{number:05}{suffix}"
    write_image(path, restore_pixels(scene.image, surface, pixels))
    names = sorted({defect.label for defect in scene.defects})
    values = np.zeros(scene.image.shape[:2], np.uint8)
    for defect in scene.defects:
        values[defect.mask] = 255 if len(names) == 1 else names.index(defect.label) + 1
    write_image(mask_path, values[..., None])
    valid = _valid_pixels(source, scene)
    roi = None if valid.all() else out / "rois" / f"{number:05}.png"
    if roi is not None:
        roi.parent.mkdir(exist_ok=True)
        write_image(roi, 255 * valid.astype(np.uint8)[..., None])
    pasted = {Path(defect.details["from"]) for defect in scene.defects if "from" in defect.details}
    return Sample(
        path,
        dominant_label(scene.defects),
        "train",
        mask_path,
        tuple(names) if len(names) > 1 else None,
        template=None if scene.warps else source.template,
        roi=roi,
        group=source.group,
        product=source.product,
        sources=(source.image, *sorted(pasted - {source.image})),
    )


def _valid_pixels(source: Sample, scene: SyntheticScene) -> Mask:
    """Valid pixels (H, W): the source's region of interest and ignored pixels, moved with the image.

    Pixels that a step moved in from beyond the border are not valid, as in training.
    """
    valid = valid_mask(source, scene.image.shape[:2])
    for where in scene.warps:
        valid = warp_valid(valid, where)
    return valid


def _defect_lines(
    out: Path, sample: Sample, source: Sample, seed: tuple[int, ...], scene: SyntheticScene
) -> list[dict[str, Any]]:
    lines = []
    for defect in scene.defects:
        lines.append(
            {
                "image": sample.image.relative_to(out).as_posix(),
                "surface": str(source.image),
                "image_seed": list(seed),
                "class": defect.label,
                "kind": defect.kind,
                "step": defect.step,
                "seed": list(defect.seed),
                "box": list(mask_bounds(defect.mask) or ()),
                "area_px": int(defect.mask.sum()),
                **defect.details,
            }
        )
    return lines
