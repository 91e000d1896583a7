"""Carrying out a recipe on one image: the same seed gives the same image, and each step has a seed of its own."""

import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from blemish.synthesis import geometric, photometric, shapes
from blemish.synthesis.cuts import Cut
from blemish.synthesis.noise import free_form_mask, perlin_mask
from blemish.synthesis.paste import blended, place, posed
from blemish.synthesis.recipe import (
    Affine,
    CutPaste,
    DefectStep,
    Elastic,
    Overlay,
    Paste,
    Recipe,
    Scar,
    ShapeStep,
    Stain,
    Step,
    own_label,
)
from blemish.synthesis.scene import Defect, Part, Scene, find_place, part_mask, visible
from blemish.synthesis.shading import change, tinted
from blemish.synthesis.textures import components, texture

Floats = NDArray[Any]
Bools = NDArray[np.bool_]
DRAWS = 6  # attempts at a defect that fits and can be seen
SMALLER = 0.8  # each further attempt, of the size
SMALLEST = 3  # px in a mask
DARK = 1 / 8  # of full scale: an image that is nowhere brighter has a scale of its own

Made = tuple[Floats, Bools, str, dict[str, Any]]  # image, mask (H, W), class, details
PHOTOMETRIC: dict[str, Callable[[Floats, Any, np.random.Generator], Floats]] = {
    "blur": photometric.blur,
    "motion-blur": photometric.motion_blur,
    "noise": photometric.noise,
    "salt-and-pepper": photometric.salt_and_pepper,
    "light": photometric.light,
}


def apply(
    recipe: Recipe,
    image: Floats,
    seed: tuple[int, ...],
    *,
    valid: Bools | None = None,
    cuts: Sequence[Cut] = (),
    defects: bool = True,
    part: Part | None = None,
    level: float = 1.0,
) -> Scene:
    """The scene that a recipe makes of an image (H, W, C) float32 in [0, 1]; the image is not changed.

    A grey image of several channels stays grey: colour would give every synthetic defect away, and teach nothing else.
    `valid` (H, W) limits where defects may lie; `cuts` are what "paste" takes from; without `defects` only geometric
    and photometric steps are done; `part` is that of the whole image, where this is a tile of one; `level` is how
    much of full scale images use, as of `scale_used`. A defect that fits nowhere or cannot be seen is left out, so
    there may be none.
    """
    image = image / level
    channels = image.shape[2]
    grey = channels > 1 and bool((image == image[..., :1]).all())
    image = image[..., :1] if grey else image
    rng = np.random.default_rng(seed)
    light = float(rng.uniform(0, 2 * np.pi))
    if part is None:
        sought = recipe.part == "auto" and defects
        part = Part(part_mask(image) if sought else np.ones(image.shape[:2], np.bool_))
    scene = Scene(image, part.mask if valid is None else part.mask & valid, light, level, part.extent)
    for number in chosen(recipe, rng):
        step, own = recipe.steps[number], (*seed, number)
        if isinstance(step, DefectStep) and defects:
            _add_defects(scene, recipe, number, own, cuts)
        elif not isinstance(step, DefectStep):
            _change(scene, step, np.random.default_rng(own))
    if grey:
        scene.image = np.repeat(scene.image, channels, axis=2)
    scene.image = scene.image * np.float32(level)
    return scene


def scale_used(image: Floats, cuts: Sequence[Cut] = ()) -> float:
    """How much of full scale image and cuts use, where that is little, as 12 of 16 bits: a power of one half; else 1.

    Light and what can be seen are measured by it.
    """
    top = max(float(pixels.max(initial=0.0)) for pixels in (image, *(piece.pixels for piece in cuts)))
    return 2.0 ** math.ceil(math.log2(top)) if 0 < top < DARK else 1.0


def chosen(recipe: Recipe, rng: np.random.Generator) -> list[int]:
    """Numbers of the steps to carry out, in order."""
    kept = {i for i, step in enumerate(recipe.steps) if rng.random() < step.p}
    if recipe.pick is None:
        return sorted(kept)
    defects = [i for i, step in enumerate(recipe.steps) if isinstance(step, DefectStep)]
    weights = np.array([recipe.steps[i].p for i in defects])
    count = min(int(rng.integers(recipe.pick[0], recipe.pick[1] + 1)), int((weights > 0).sum()))
    picked = rng.choice(defects, size=count, replace=False, p=weights / weights.sum()) if count else []
    return sorted((kept - set(defects)) | {int(i) for i in picked})


def warped_scene(scene: Scene, where: geometric.Map) -> None:
    """Move the scene's image, part and defects; a defect that is moved off the picture is dropped."""
    scene.warps.append(where)
    scene.image, scene.part = geometric.warp_image(scene.image, where), geometric.warp_valid(scene.part, where)
    moved = []
    for defect in scene.defects:
        mask = geometric.warp_mask(defect.mask, where)
        if mask.any():
            moved.append(Defect(defect.label, defect.kind, defect.step, defect.seed, mask, defect.details))
    scene.defects = moved


def _change(scene: Scene, step: Step, rng: np.random.Generator) -> None:
    size = (scene.image.shape[0], scene.image.shape[1])
    if isinstance(step, Affine):
        warped_scene(scene, geometric.affine(size, step, rng))
    elif isinstance(step, Elastic):
        warped_scene(scene, geometric.elastic(size, step, rng))
    else:
        scene.image = PHOTOMETRIC[step.kind](scene.image, step, rng)  # type: ignore[attr-defined]


def _add_defects(scene: Scene, recipe: Recipe, number: int, seed: tuple[int, ...], cuts: Sequence[Cut]) -> None:
    step: Any = recipe.steps[number]
    wanted = int(np.random.default_rng(seed).integers(step.count[0], step.count[1] + 1))
    for which in range(wanted):
        for draw in range(DRAWS):
            own = (*seed, which, draw)
            made = _make(scene, step, np.random.default_rng(own), SMALLER**draw, cuts)
            if made is None or made[1].sum() < SMALLEST or not visible(scene.image, made[0], made[1], recipe.visible):
                continue
            scene.image, mask, label, details = made
            scene.defects.append(Defect(label, step.kind, number, own, mask, details))
            break


def _make(scene: Scene, step: Any, rng: np.random.Generator, scale: float, cuts: Sequence[Cut]) -> Made | None:
    if isinstance(step, ShapeStep):
        return _shape(scene, step, rng, scale)
    if isinstance(step, Overlay):
        return _overlay(scene, step, rng)
    if isinstance(step, Paste):
        return _paste(scene, step, rng, scale, cuts)
    return _rectangle(scene, step, rng, scale)


def _shape(scene: Scene, step: Any, rng: np.random.Generator, scale: float) -> Made | None:
    length = scale * rng.uniform(*step.length) * scene.extent
    across = rng.uniform(*step.width)
    width = across * (scene.extent if step.kind in shapes.LINES else length)
    cover = getattr(shapes, step.kind)(rng, max(2.0, length), max(1.0, width))
    mask = shapes.mask_of(step.kind, cover)
    at = find_place(rng, mask, scene.free)
    if at is None:
        return None
    window = np.s_[at[0] : at[0] + cover.shape[0], at[1] : at[1] + cover.shape[1]]
    cover = cover * scene.part[window]  # the faint edge does not leave the part either
    strength = rng.uniform(*step.strength)
    tone = {"dark": -1.0, "light": 1.0}.get(step.tone, float(rng.choice([-1, 1])))
    tint = np.ones(scene.image.shape[2], np.float32)
    if isinstance(step, Stain):
        tint = (tint + step.tint * rng.uniform(-1, 1, len(tint))).astype(np.float32)
    image = scene.image.copy()
    added = change(step.kind, cover, rng, scene.light, strength, tone)
    image[window] = tinted(image[window], added, cover, tint)
    details = {"length_px": round(length, 1), "width_px": round(width, 1), "strength": round(strength, 3), "tone": tone}
    return image, _placed(mask, at, scene.part.shape), str(own_label(step)), details


def _overlay(scene: Scene, step: Overlay, rng: np.random.Generator) -> Made | None:
    kind = step.mask if step.mask != "either" else str(rng.choice(["perlin", "free-form"]))
    draw = perlin_mask if kind == "perlin" else free_form_mask
    whole, free = float(scene.part.sum()), scene.free
    patches = [p for p in components(draw(rng, *free.shape) & free) if step.area[0] <= p.sum() / whole <= step.area[1]]
    if not patches:
        return None
    mask = patches[int(rng.integers(len(patches)))]
    opacity = rng.uniform(*step.opacity)
    inner = cv2.distanceTransform(np.pad(mask, 1).astype(np.uint8), cv2.DIST_L2, 5)[1:-1, 1:-1]
    weight = opacity * np.clip(inner / (step.edge + 1), 0, 1)[..., None]
    image = scene.image + weight * (texture(step.texture, scene.image, rng) - scene.image)
    details = {"mask": kind, "opacity": round(opacity, 3)}
    return np.asarray(image, np.float32), mask, str(own_label(step)), details


def _rectangle(scene: Scene, step: CutPaste | Scar, rng: np.random.Generator, scale: float) -> Made | None:
    """A rectangle of the part, its colours changed, at another place of it."""
    if isinstance(step, Scar):
        height, width = (scale * rng.uniform(*sides) * scene.extent for sides in (step.width, step.length))
        turn = rng.uniform(*step.turn)
    else:
        area = scale**2 * rng.uniform(*step.area) * float(scene.part.sum())
        aspect = float(np.exp(rng.uniform(*np.log(step.aspect))))
        height, width, turn = np.sqrt(area * aspect), np.sqrt(area / aspect), 0.0
    patch = np.ones((max(2, round(height)), max(2, round(width))), np.bool_)
    source = find_place(rng, patch, scene.free)
    if source is None:
        return None
    pixels = scene.image[source[0] : source[0] + patch.shape[0], source[1] : source[1] + patch.shape[1]]
    pixels = np.clip(
        pixels * (1 + rng.uniform(-step.jitter, step.jitter, pixels.shape[2])) + rng.uniform(-step.jitter, step.jitter),
        0,
        1,
    ).astype(np.float32)
    piece = Cut(pixels, patch, "", "")
    pose = Paste(kind="paste", turn=(turn, turn), size=(1, 1), mirror=False)
    turned, _ = posed(piece, pose, rng)
    mask = turned.mask
    at = find_place(rng, mask, scene.free)
    if at is None:
        return None
    image = scene.image.copy()
    window = np.s_[at[0] : at[0] + mask.shape[0], at[1] : at[1] + mask.shape[1]]
    image[window] = np.where(mask[..., None], turned.pixels, image[window])
    details = {"from_x": source[1], "from_y": source[0], "turn": round(turn, 1)}
    return image, _placed(mask, at, scene.part.shape), str(own_label(step)), details


def _paste(scene: Scene, step: Paste, rng: np.random.Generator, scale: float, cuts: Sequence[Cut]) -> Made | None:
    eligible = [c for c in cuts if not step.classes or c.label in step.classes]
    channels = scene.image.shape[2]
    eligible = [c for c in eligible if channels in (1, c.pixels.shape[2])]
    if not eligible:
        return None
    labels = sorted({c.label for c in eligible})  # a class with many examples is not pasted more often
    label = labels[int(rng.integers(len(labels)))]
    same = [c for c in eligible if c.label == label]
    piece = same[int(rng.integers(len(same)))]
    if channels == 1:
        piece = replace(piece, pixels=piece.pixels.mean(axis=2, keepdims=True))
    piece = replace(piece, pixels=piece.pixels / np.float32(scene.level))
    piece, details = posed(piece, step, rng, scale)
    at = place(piece, scene.free, rng) if piece.mask.any() else None
    if at is None:
        return None
    poisson = step.blend == "poisson" or (step.blend == "either" and bool(rng.random() < 0.5))
    image = blended(scene.image, scene.part, piece, at, step, poisson)
    details |= {"from": piece.source, "box": list(piece.box), "blend": "poisson" if poisson else "soft"}
    return image, _placed(piece.mask, at, scene.part.shape), step.label or piece.label, details


def _placed(mask: Bools, at: tuple[int, int], size: tuple[int, ...]) -> Bools:
    """A patch's mask as one of the whole image; what the patch has beyond the border is empty."""
    whole = np.zeros(size[:2], np.bool_)
    rows = slice(max(0, at[0]), min(size[0], at[0] + mask.shape[0]))
    columns = slice(max(0, at[1]), min(size[1], at[1] + mask.shape[1]))
    whole[rows, columns] = mask[rows.start - at[0] : rows.stop - at[0], columns.start - at[1] : columns.stop - at[1]]
    return whole
