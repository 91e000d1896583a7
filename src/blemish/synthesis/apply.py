"""Apply a defect specification to an image: the same seed gives the same image; each step has a seed of its own."""

import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import cv2
import numpy as np

from blemish.arrays import FloatImage, Mask
from blemish.geometry import connected_regions
from blemish.synthesis import geometric, photometric, shapes
from blemish.synthesis.cutouts import DefectCutout
from blemish.synthesis.defect_spec import (
    Affine,
    CutPaste,
    DefectSpec,
    DefectStep,
    Elastic,
    Overlay,
    Paste,
    Scar,
    ShapeStep,
    Stain,
    Step,
    step_label,
)
from blemish.synthesis.noise import free_form_mask, perlin_mask
from blemish.synthesis.paste import blend_cutout, find_paste_position, transform_cutout
from blemish.synthesis.scene import (
    PartMask,
    SyntheticDefect,
    SyntheticScene,
    find_free_position,
    find_part_mask,
    is_visible,
)
from blemish.synthesis.shading import add_change, brightness_change
from blemish.synthesis.textures import make_texture

MAX_TRIES_PER_DEFECT = 6  # attempts at a defect that fits and can be seen
SHRINK = 0.8  # factor of the size for each further attempt
MIN_MASK_PX = 3
MAX_DARK = 1 / 8  # of full scale: an image that is nowhere brighter has a scale of its own

Changed = tuple[FloatImage, Mask, str, dict[str, Any]]  # image, mask (H, W), class, details
PHOTOMETRIC: dict[str, Callable[[FloatImage, Any, np.random.Generator], FloatImage]] = {
    "blur": photometric.blur,
    "motion-blur": photometric.motion_blur,
    "noise": photometric.noise,
    "salt-and-pepper": photometric.salt_and_pepper,
    "light": photometric.light,
}


def apply(
    spec: DefectSpec,
    image: FloatImage,
    seed: tuple[int, ...],
    *,
    valid: Mask | None = None,
    cuts: Sequence[DefectCutout] = (),
    defects: bool = True,
    part: PartMask | None = None,
    level: float = 1.0,
) -> SyntheticScene:
    """Apply a specification to an image (H, W, C) float32 in [0, 1]; the image itself is not changed.

    A grey image of several channels stays grey: colour would give every synthetic defect away.
    `valid` (H, W) limits where defects may lie; "paste" takes its defects from `cuts`; without `defects` only geometric
    and photometric steps are carried out; `part` is that of the whole image, where this is a tile of one; `level` is
    the share of full scale that images use (see `used_scale`). A defect that fits nowhere or cannot be seen is left
    out, so there may be none.
    """
    image = image / level
    channels = image.shape[2]
    grey = channels > 1 and bool((image == image[..., :1]).all())
    image = image[..., :1] if grey else image
    rng = np.random.default_rng(seed)
    light = float(rng.uniform(0, 2 * np.pi))
    if part is None:
        part = PartMask(
            find_part_mask(image) if spec.part == "auto" and defects else np.ones(image.shape[:2], np.bool_)
        )
    scene = SyntheticScene(image, part.mask if valid is None else part.mask & valid, light, level, part.extent)
    for number in sample_steps(spec, rng):
        step, own = spec.steps[number], (*seed, number)
        if isinstance(step, DefectStep) and defects:
            _add_defects(scene, spec, number, own, cuts)
        elif not isinstance(step, DefectStep):
            _change(scene, step, np.random.default_rng(own))
    if grey:
        scene.image = np.repeat(scene.image, channels, axis=2)
    scene.image = scene.image * np.float32(level)
    return scene


def used_scale(image: FloatImage, cuts: Sequence[DefectCutout] = ()) -> float:
    """Share of full scale that image and cut-outs use, a power of 1/2, where it is small as for 12 of 16 bits; else 1.

    Brightness and visibility are relative to it.
    """
    top = max(float(pixels.max(initial=0.0)) for pixels in (image, *(piece.pixels for piece in cuts)))
    return 2.0 ** math.ceil(math.log2(top)) if 0 < top < MAX_DARK else 1.0


def sample_steps(spec: DefectSpec, rng: np.random.Generator) -> list[int]:
    """Numbers of the steps to carry out, in order."""
    kept = {i for i, step in enumerate(spec.steps) if rng.random() < step.p}
    if spec.pick is None:
        return sorted(kept)
    defects = [i for i, step in enumerate(spec.steps) if isinstance(step, DefectStep)]
    weights = np.array([spec.steps[i].p for i in defects])
    count = min(int(rng.integers(spec.pick[0], spec.pick[1] + 1)), int((weights > 0).sum()))
    picked: Any = rng.choice(defects, size=count, replace=False, p=weights / weights.sum()) if count else []
    return sorted((kept - set(defects)) | {int(i) for i in picked})


def warp_scene(scene: SyntheticScene, where: geometric.WarpMap) -> None:
    """Move the scene's image, part and defects; a defect that moves out of the image is dropped."""
    scene.warps.append(where)
    scene.image, scene.part = geometric.warp_image(scene.image, where), geometric.warp_valid(scene.part, where)
    moved = []
    for defect in scene.defects:
        mask = geometric.warp_mask(defect.mask, where)
        if mask.any():
            moved.append(replace(defect, mask=mask))
    scene.defects = moved


def _change(scene: SyntheticScene, step: Step, rng: np.random.Generator) -> None:
    size = (scene.image.shape[0], scene.image.shape[1])
    if isinstance(step, Affine):
        warp_scene(scene, geometric.affine(size, step, rng))
    elif isinstance(step, Elastic):
        warp_scene(scene, geometric.elastic(size, step, rng))
    else:
        scene.image = PHOTOMETRIC[step.kind](scene.image, step, rng)  # type: ignore[attr-defined]


def _add_defects(
    scene: SyntheticScene, spec: DefectSpec, number: int, seed: tuple[int, ...], cuts: Sequence[DefectCutout]
) -> None:
    step: Any = spec.steps[number]
    wanted = int(np.random.default_rng(seed).integers(step.count[0], step.count[1] + 1))
    for which in range(wanted):
        for draw in range(MAX_TRIES_PER_DEFECT):
            own = (*seed, which, draw)
            made = _make_defect(scene, step, np.random.default_rng(own), SHRINK**draw, cuts)
            if made is None:
                continue
            image, mask, label, details = made
            if mask.sum() >= MIN_MASK_PX and is_visible(scene.image, image, mask, spec.visible):
                scene.image = image
                scene.defects.append(SyntheticDefect(label, step.kind, number, own, mask, details))
                break


def _make_defect(
    scene: SyntheticScene, step: Any, rng: np.random.Generator, scale: float, cuts: Sequence[DefectCutout]
) -> Changed | None:
    if isinstance(step, ShapeStep):
        return _make_shape(scene, step, rng, scale)
    if isinstance(step, Overlay):
        return _make_overlay(scene, step, rng)
    if isinstance(step, Paste):
        return _make_paste(scene, step, rng, scale, cuts)
    return _make_rectangle(scene, step, rng, scale)


def _make_shape(scene: SyntheticScene, step: Any, rng: np.random.Generator, scale: float) -> Changed | None:
    length = scale * rng.uniform(*step.length) * scene.extent
    across = rng.uniform(*step.width)
    width = across * (scene.extent if step.kind in shapes.LINES else length)
    shape = shapes.IRREGULAR_SHAPES[step.kind](rng, max(2.0, length), max(1.0, width))
    at = find_free_position(rng, shape.mask, scene.free)
    if at is None:
        return None
    window = np.s_[at[0] : at[0] + shape.mask.shape[0], at[1] : at[1] + shape.mask.shape[1]]
    cover = shape.coverage * scene.part[window]  # the faint edge does not leave the part either
    strength = rng.uniform(*step.strength)
    tone = {"dark": -1.0, "light": 1.0}.get(step.tone, float(rng.choice([-1, 1])))
    tint = np.ones(scene.image.shape[2], np.float32)
    if isinstance(step, Stain):
        tint = (tint + step.tint * rng.uniform(-1, 1, len(tint))).astype(np.float32)
    image = scene.image.copy()
    added = brightness_change(step.kind, cover, scene.light, strength, tone)
    image[window] = add_change(image[window], added, cover, tint)
    size = {"length_px": round(shape.length, 1), "width_px": round(shape.width, 1)}
    details = {**size, "strength": round(strength, 3), "tone": tone}
    return image, _mask_of_image(shape.mask, at, scene.part.shape), str(step_label(step)), details


def _make_overlay(scene: SyntheticScene, step: Overlay, rng: np.random.Generator) -> Changed | None:
    kind = step.mask if step.mask != "either" else str(rng.choice(["perlin", "free-form"]))
    sample_mask = perlin_mask if kind == "perlin" else free_form_mask
    whole, free = float(scene.part.sum()), scene.free
    regions = connected_regions(sample_mask(rng, *free.shape) & free)
    patches = [region for region in regions if step.area[0] <= region.sum() / whole <= step.area[1]]
    if not patches:
        return None
    mask = patches[int(rng.integers(len(patches)))]
    opacity = rng.uniform(*step.opacity)
    inner = cv2.distanceTransform(np.pad(mask, 1).astype(np.uint8), cv2.DIST_L2, 5)[1:-1, 1:-1]
    weight = opacity * np.clip(inner / (step.edge + 1), 0, 1)[..., None]
    image = scene.image + weight * (make_texture(step.texture, scene.image, rng) - scene.image)
    details = {"mask": kind, "opacity": round(opacity, 3)}
    return np.asarray(image, np.float32), mask, str(step_label(step)), details


def _make_rectangle(
    scene: SyntheticScene, step: CutPaste | Scar, rng: np.random.Generator, scale: float
) -> Changed | None:
    """A rectangle of the part, its colours changed, copied to another position on it."""
    if isinstance(step, Scar):
        height, width = (scale * rng.uniform(*sides) * scene.extent for sides in (step.width, step.length))
        turn = rng.uniform(*step.turn)
    else:
        area = scale**2 * rng.uniform(*step.area) * float(scene.part.sum())
        aspect = float(np.exp(rng.uniform(*np.log(step.aspect))))
        height, width, turn = np.sqrt(area * aspect), np.sqrt(area / aspect), 0.0
    patch = np.ones((max(2, round(height)), max(2, round(width))), np.bool_)
    source = find_free_position(rng, patch, scene.free)
    if source is None:
        return None
    pixels = scene.image[source[0] : source[0] + patch.shape[0], source[1] : source[1] + patch.shape[1]]
    pixels = np.clip(
        pixels * (1 + rng.uniform(-step.jitter, step.jitter, pixels.shape[2])) + rng.uniform(-step.jitter, step.jitter),
        0,
        1,
    ).astype(np.float32)
    piece = DefectCutout(pixels, patch, "", "")
    pose = Paste(kind="paste", turn=(turn, turn), size=(1, 1), mirror=False)
    turned, _ = transform_cutout(piece, pose, rng)
    mask = turned.mask
    at = find_free_position(rng, mask, scene.free)
    if at is None:
        return None
    image = scene.image.copy()
    window = np.s_[at[0] : at[0] + mask.shape[0], at[1] : at[1] + mask.shape[1]]
    image[window] = np.where(mask[..., None], turned.pixels, image[window])
    details = {"from_x": source[1], "from_y": source[0], "turn": round(turn, 1)}
    return image, _mask_of_image(mask, at, scene.part.shape), str(step_label(step)), details


def _make_paste(
    scene: SyntheticScene, step: Paste, rng: np.random.Generator, scale: float, cuts: Sequence[DefectCutout]
) -> Changed | None:
    eligible = [c for c in cuts if not step.classes or c.label in step.classes]
    channels = scene.image.shape[2]
    eligible = [c for c in eligible if channels in (1, c.pixels.shape[2])]
    if not eligible:
        return None
    labels = sorted({c.label for c in eligible})  # so that a class with many examples is not pasted more often
    label = labels[int(rng.integers(len(labels)))]
    same = [c for c in eligible if c.label == label]
    piece = same[int(rng.integers(len(same)))]
    if channels == 1:
        piece = replace(piece, pixels=piece.pixels.mean(axis=2, keepdims=True))
    piece = replace(piece, pixels=piece.pixels / np.float32(scene.level))
    piece, details = transform_cutout(piece, step, rng, scale)
    at = find_paste_position(piece, scene.free, rng) if piece.mask.any() else None
    if at is None:
        return None
    poisson = step.blend == "poisson" or (step.blend == "either" and bool(rng.random() < 0.5))
    image = blend_cutout(scene.image, scene.part, piece, at, step, poisson)
    details |= {"from": piece.source, "box": list(piece.box), "blend": "poisson" if poisson else "soft"}
    return image, _mask_of_image(piece.mask, at, scene.part.shape), step.label or piece.label, details


def _mask_of_image(mask: Mask, at: tuple[int, int], size: tuple[int, ...]) -> Mask:
    """The mask of a patch at a position as a mask of the whole image; beyond the border the patch is empty."""
    whole = np.zeros(size[:2], np.bool_)
    rows = slice(max(0, at[0]), min(size[0], at[0] + mask.shape[0]))
    columns = slice(max(0, at[1]), min(size[1], at[1] + mask.shape[1]))
    whole[rows, columns] = mask[rows.start - at[0] : rows.stop - at[0], columns.start - at[1] : columns.stop - at[1]]
    return whole
