"""Conditions of the advisor's rules on a fingerprint, and the settings of a run that follow from it."""

from typing import Any

from blemish.dataset.fingerprint import LONG, Fingerprint

MULTI_LABEL_SHARE = 0.1  # of the defective images: from here on several classes in one image are common
ENOUGH = 25  # defective images from which a network can be trained on them
MIN_DEFECT_PX = 8.0  # side of a small defect in the network's input: one cell of a map with stride 8
VIEWS = (256, 320, 384, 512)
DEFAULT_VIEW = VIEWS[0]
MAX_VIEW = VIEWS[-1]
LARGE = 4  # times the view, from which an image with defects of unknown size is tiled
MIN_TILE = DEFAULT_VIEW // 2  # px


def shows_several_classes(f: Fingerprint) -> bool:
    """Whether images commonly show more than one class."""
    return f.several_training > MULTI_LABEL_SHARE * f.defective_training


def few_or_no_defects(f: Fingerprint) -> bool:
    return f.defective_training < ENOUGH and "good" in f.training_annotations


def enough_defects(f: Fingerprint) -> bool:
    """Whether there are enough defects, or no other training images."""
    return f.defective_training >= ENOUGH or (f.defective_training > 0 and "good" not in f.training_annotations)


def enough_annotated(f: Fingerprint, annotated: int) -> bool:
    """Whether enough defective images are annotated or, in a set without good ones, most of them."""
    return annotated >= ENOUGH or ("good" not in f.training_annotations and annotated > 0.5 * f.defective_training)


def masks_given(f: Fingerprint) -> bool:
    return enough_annotated(f, f.masked_training)


def boxes_given(f: Fingerprint) -> bool:
    return enough_annotated(f, f.boxed_training) and not masks_given(f)


def labels_only(f: Fingerprint) -> bool:
    return enough_defects(f) and not masks_given(f) and not boxes_given(f)


def is_cut_into_squares(f: Fingerprint) -> bool:
    """Whether long images are cut into square tiles: not where only whole images are labelled."""
    return max(f.height, f.width) >= LONG * min(f.height, f.width) and not labels_only(f)


def input_side(f: Fingerprint) -> int:
    """Side of the network's input in px of the image: of the whole image, or of a tile of a long one."""
    return max(MIN_TILE, min(f.height, f.width)) if is_cut_into_squares(f) else max(f.height, f.width)


def defect_side(f: Fingerprint, image_size: int) -> float | None:
    """Side of the small defects in px of the network's input."""
    return None if f.small_defect_side is None else f.small_defect_side * image_size / input_side(f)


def small_defects(f: Fingerprint) -> bool:
    side = defect_side(f, DEFAULT_VIEW)
    return side is not None and side < MIN_DEFECT_PX


def tiny_defects(f: Fingerprint) -> bool:
    side = defect_side(f, MAX_VIEW)
    return side is not None and side < MIN_DEFECT_PX


def large_image_unknown_defects(f: Fingerprint) -> bool:
    return f.small_defect_side is None and max(f.height, f.width) > LARGE * DEFAULT_VIEW


def square_tiles(f: Fingerprint) -> dict[str, Any]:
    return {"tile": input_side(f)}


def larger_view(f: Fingerprint) -> dict[str, Any]:
    """The smallest input size at which small defects have MIN_DEFECT_PX."""
    return {"image_size": next(v for v in VIEWS if (defect_side(f, v) or MIN_DEFECT_PX) >= MIN_DEFECT_PX)}


def tiles(f: Fingerprint) -> dict[str, Any]:
    """Tiles in which small defects have MIN_DEFECT_PX at the default input size.

    Where only whole images are labelled, no tile is known to show the defect, so the largest input size is taken.
    """
    if labels_only(f):
        return {"image_size": MAX_VIEW}
    side = f.small_defect_side
    tile = LARGE * DEFAULT_VIEW // 2 if side is None else int(side * DEFAULT_VIEW / MIN_DEFECT_PX)
    return {"image_size": DEFAULT_VIEW, "tile": max(MIN_TILE, min(tile, input_side(f)))}
