"""Every rule of the advisor, in one table: when it holds, what it does, why, and the measured case behind it.

Points add up: a method stands the higher in the ranking the more it has. A method whose needs the training images do
not meet is left out whatever its points. Where `case` is None, the rule rests on its reason alone and has not been
measured here yet; `blemish plan` says so.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from blemish.dataset.fingerprint import Fingerprint
from blemish.dataset.sample import FEW

DARK = 1 / 8  # of full scale
SEVERAL = 0.1  # share of the defective images with more than one class, above which that is no exception
LEAST_OF_CLASS = 2  # images without which a class cannot be learnt by its label
ENOUGH = 25  # defective images from which on it is worth to train a network on them
MANY_GOOD = 50
SEEN = 8.0  # px that a small defect must have in the network's view: one cell of a map with stride 8
VIEWS = (256, 320, 384, 512)
DEFAULT_VIEW = VIEWS[0]
LARGEST_VIEW = VIEWS[-1]
LARGE = 4  # times the view, from which on an image with defects of unknown size is tiled
LEAST_TILE = DEFAULT_VIEW // 2  # px
LONG = 2  # times as long as wide, from which on an image is cut into squares


@dataclass(frozen=True)
class Rule:
    name: str
    when: Callable[[Fingerprint], bool]
    reason: str
    case: str | None = None
    points: dict[str, int] = field(default_factory=dict)  # method -> points
    settings: Callable[[Fingerprint], dict[str, Any]] | None = None  # of the run: image_size, tile, channels
    warns: bool = False
    suggests: bool = False  # the reason says what else is worth a try


def several_classes(f: Fingerprint) -> bool:
    """Whether it is usual that an image shows more than one class."""
    return f.several_training > SEVERAL * f.defective_training


def few_or_no_defects(f: Fingerprint) -> bool:
    return f.defective_training < ENOUGH and "good" in f.training_truth


def defects_to_learn(f: Fingerprint) -> bool:
    """Whether there are defects enough, or nothing else to learn from."""
    return f.defective_training >= ENOUGH or (f.defective_training > 0 and "good" not in f.training_truth)


def enough_marked(f: Fingerprint, marked: int) -> bool:
    """Whether so many defective images are enough, or, where none is good, as many as tell of most defects."""
    return marked >= ENOUGH or ("good" not in f.training_truth and marked > 0.5 * f.defective_training)


def masks_given(f: Fingerprint) -> bool:
    return enough_marked(f, f.masked_training)


def boxes_given(f: Fingerprint) -> bool:
    return enough_marked(f, f.boxed_training) and not masks_given(f)


def labels_only(f: Fingerprint) -> bool:
    return defects_to_learn(f) and not masks_given(f) and not boxes_given(f)


def cut_along(f: Fingerprint) -> bool:
    """Long images are cut into square tiles, unless labels of whole images are all there is to learn from."""
    return max(f.height, f.width) >= LONG * min(f.height, f.width) and not labels_only(f)


def side_at_once(f: Fingerprint) -> int:
    """Side of what the network sees at once, in px of the image: of all of it, or of a tile of a long one."""
    return max(LEAST_TILE, min(f.height, f.width)) if cut_along(f) else max(f.height, f.width)


def side_in_view(f: Fingerprint, image_size: int) -> float | None:
    """Side of the small defects in px of what the network sees."""
    return None if f.small_defect_side is None else f.small_defect_side * image_size / side_at_once(f)


def small_defects(f: Fingerprint) -> bool:
    side = side_in_view(f, DEFAULT_VIEW)
    return side is not None and side < SEEN


def tiny_defects(f: Fingerprint) -> bool:
    side = side_in_view(f, LARGEST_VIEW)
    return side is not None and side < SEEN


def large_image_unknown_defects(f: Fingerprint) -> bool:
    return f.small_defect_side is None and max(f.height, f.width) > LARGE * DEFAULT_VIEW


def square_tiles(f: Fingerprint) -> dict[str, Any]:
    return {"tile": side_at_once(f)}


def larger_view(f: Fingerprint) -> dict[str, Any]:
    """The smallest view in which small defects have SEEN px."""
    return {"image_size": next(v for v in VIEWS if (side_in_view(f, v) or SEEN) >= SEEN)}


def tiles(f: Fingerprint) -> dict[str, Any]:
    """Tiles in which small defects have SEEN px in the default view.

    Where only whole images are labelled, nothing tells which tile shows the defect: the largest view, then.
    """
    if labels_only(f):
        return {"image_size": LARGEST_VIEW}
    side = f.small_defect_side
    tile = LARGE * DEFAULT_VIEW // 2 if side is None else int(side * DEFAULT_VIEW / SEEN)
    return {"image_size": DEFAULT_VIEW, "tile": max(LEAST_TILE, min(tile, side_at_once(f)))}


GOOD_CASE = (
    "image AUROC on bottle, wood, magnetic tile: patchcore 1.000, 0.900, 0.960; padim 0.996, 0.900, 0.960; dfm 1.000, "
    "0.855, 0.991; reverse-distillation 0.998, 0.921, 0.804; supersimplenet 1.000, 0.894, 0.834; draem 0.970, 0.917, "
    "0.781; efficientad 0.984, 0.902, 0.740; siamese 1.000, 0.785, 0.794; fastflow 0.992, 0.770, 0.773; fcdd 0.997, "
    "0.670, 0.863; patch-svdd 0.969, 0.942, 0.606; inpainting 0.990, 0.856, 0.632; spade 0.995, 0.732, 0.754; "
    "ganomaly 0.925, 0.926, 0.624; vae 0.905, 0.925, 0.607; f-anogan 0.917, 0.926, 0.594; aae 0.898, 0.939, 0.596; "
    "denoising-autoencoder 0.912, 0.949, 0.567; autoencoder 0.975, 0.671, 0.654; stfpm 0.999, 0.896, 0.754; solar "
    "cells: patchcore 0.956, dfm 0.955, padim 0.948 (benchmarks/unsupervised.py)"
)
MOVED_CASE = (
    "image AUROC on bottles as they are and moved by up to an eighth of the image: padim 0.996 and 0.802, patchcore "
    "1.000 and 1.000, dfm 1.000 and 0.998; on wood, which looks the same everywhere: padim 0.898 and 0.885, patchcore "
    "0.894 and 0.899 (benchmarks/conditions.py, two seeds)"
)
FEW_GOOD_CASE = (
    "image AUROC from 10 good images of bottle, and of wood: patchcore 0.994, 0.914; padim 0.997, 0.883; dfm 0.996, "
    "0.867 (benchmarks/conditions.py, two seeds)"
)
LABELS_CASE = (
    "macro F1 of classifier and feature-classifier: NEU 1.000 and 0.997, magnetic tile 0.922 and 0.944 (three seeds), "
    "solar cells 0.850 and 0.821 (one); cascade on magnetic tile 0.911 (benchmarks/classification.py)"
)
BOXES_CASE = (
    "mAP50 on NEU-DET: faster-rcnn 0.740, yolo 0.739, retinanet 0.734, ssd 0.730, fcos 0.695; "
    "faster-rcnn on DeepPCB 0.951 (benchmarks/detection.py, seed 0)"
)
LONG_CASE = (
    "AUPRO on bands of bottles, 512 by 192 px, stretched, with bars beside them, and in tiles: patchcore 0.899, 0.888, "
    "0.937; padim 0.877, 0.830, 0.911; dfm 0.871, 0.793, 0.933; image AUROC as good either way, time 5 to 15 times as "
    "long (benchmarks/views.py, seed 0)"
)
SMALL_CASE = (
    "AUPRO of patchcore on two by two boards of wood as one picture: 0.729 at 256 px, 0.793 at the rule's 384; image "
    "AUROC 0.701 and 0.698 (benchmarks/views.py, seed 0)"
)
LARGE_CASE = (
    "AUPRO of patchcore on five by five boards of wood as one picture of 1280 px: 0.544 seen at 256 px, 0.731 at 512, "
    "0.774 in tiles of 512 (rule on large images), 0.817 in tiles of 363 (rule on tiny defects); image AUROC 0.516, "
    "0.535, 0.583, 0.591 (benchmarks/views.py, seed 0)"
)
CHANNELS_CASE = (
    "image AUROC of patchcore on bottles whose defects show in the fourth channel alone: 0.956 from all four, 0.618 "
    "from the first three (benchmarks/views.py, seed 0)"
)
HANDFUL_CASE = (
    "5 images of each of two unseen kinds of NEU: accuracy of prototypical 0.968 to 0.999, matching 0.966 to 0.999 "
    "over the three pairs; of the tile's five kinds 0.418 and 0.429 (benchmarks/few.py, seed 0)"
)
MIXED_CASE = (
    "magnetic tile, image AUROC and pixel AUROC: patchcore, from good images alone, 0.906 and 0.824; supersimplenet "
    "0.838 and 0.621 from these, with a mask of 1 of each kind 0.851 and 0.870, of 5 0.838 and 0.907, of 25 0.927 and "
    "0.934; unet, from all masks, 0.931 and 0.951 (benchmarks/few.py, seed 0)"
)
PASTE_CASE = (
    "magnetic tile with 5, 10, 25 real defects of a class: macro F1 of classifier 0.276, 0.435, 0.561, with pastes "
    "0.575, 0.734, 0.610; IoU of unet in 300 steps 0.502 (three seeds), 0.336, 0.501, with pastes 0.442 (0.267 to "
    "0.569), 0.579, 0.525 (benchmarks/few.py)"
)
PIXELS_CASE = (
    "magnetic tile: IoU of deeplabv3plus 0.731 (one seed), fpn 0.716 (two), unet 0.681 (four), segan 0.666 (two), "
    "fcn 0.664 (three), multitask 0.635 (two); of the defective images deeplabv3plus and fpn let 9 % pass, "
    "unet 11 %, fcn 12 %, multitask 2 %, segan 50 % (benchmarks/segmentation.py)"
)
MASKS_CASE = (
    "macro F1 on magnetic tile: feature-classifier 0.944, multitask, which learns from masks too, 0.942 (two seeds), "
    "classifier 0.922, cascade 0.911 (three; benchmarks/classification.py)"
)

RULES: tuple[Rule, ...] = (
    # What to learn from.
    Rule(
        "good images",
        lambda f: "good" in f.training_truth,
        "there are good images to learn from; a memory bank has nothing to tune and is ready after one pass",
        GOOD_CASE,
        {"patchcore": 50, "padim": 32, "dfm": 32, "reverse-distillation": 28, "supersimplenet": 25, "draem": 24,
         "stfpm": 23, "efficientad": 21, "siamese": 18, "fastflow": 17, "fcdd": 16, "patch-svdd": 15, "inpainting": 14,
         "spade": 13, "ganomaly": 12, "vae": 11, "f-anogan": 10, "aae": 10, "autoencoder": 6,
         "denoising-autoencoder": 9},
    ),
    Rule(
        "no or few labelled defects",
        few_or_no_defects,
        f"fewer than {ENOUGH} defective images to learn from: a network taught on them would learn those by heart",
        MIXED_CASE,
        points={"patchcore": 30, "padim": 20, "dfm": 20, "reverse-distillation": 10},
    ),
    Rule(
        "some labelled defects",
        lambda f: 0 < f.defective_training < ENOUGH and "good" in f.training_truth,
        "the few labelled defects need not lie idle: one network learns from good images, noise and these",
        MIXED_CASE,
        points={"supersimplenet": 40},
    ),
    Rule(
        "few good images",
        lambda f: 0 < f.good_training < MANY_GOOD,
        f"fewer than {MANY_GOOD} good images: a bank of single patches needs fewer than a fitted distribution",
        FEW_GOOD_CASE,
        points={"patchcore": 10, "padim": -10, "efficientad": -5, "fastflow": -5, "autoencoder": -4, "vae": -4},
    ),
    Rule(
        "aligned",
        lambda f: f.aligned and f.good_training > 0,
        "things lie at the same place in all images, which a model of every place of its own makes use of",
        MOVED_CASE,
        points={"padim": 10, "siamese": 6},
    ),
    Rule(
        "not aligned",
        lambda f: not f.aligned and f.good_training > 0,
        "things lie elsewhere in every image: what compares place with place sees differences that are none",
        MOVED_CASE,
        points={"padim": -20, "siamese": -10},
    ),
    Rule(
        "masks of defects",
        masks_given,
        f"masks of {ENOUGH} defective images, or there is nothing else: a segmenter learns what the defects are, where "
        "and how much",
        PIXELS_CASE,
        points={"deeplabv3plus": 100, "fpn": 98, "unet": 96, "multitask": 92, "fcn": 84, "segan": 60, "patchcore": 20},
    ),
    Rule(
        "boxes of defects",
        boxes_given,
        "defects are marked by boxes: a detector learns what they are and where",
        BOXES_CASE,
        points={"faster-rcnn": 100, "yolo": 98, "retinanet": 96, "ssd": 94, "fcos": 80},
    ),
    Rule(
        "labels alone",
        labels_only,
        "images are labelled as a whole: a classifier learns what the defect is",
        LABELS_CASE,
        points={"classifier": 90, "feature-classifier": 80, "cascade": 70},
    ),
    Rule(
        "labels beside boxes or masks",
        lambda f: f.rarest >= FEW and "label" in f.training_truth and not labels_only(f),
        f"every class has {FEW} images or more, so a classifier is an answer where the kind alone matters",
        MASKS_CASE,
        points={"classifier": 76, "feature-classifier": 68, "cascade": 50},
    ),
    Rule(
        "a handful of a class",
        lambda f: 0 < f.rarest < 10,
        "a class with fewer than 10 images: comparing with examples needs less than fitting a layer",
        HANDFUL_CASE,
        points={"prototypical": 60, "matching": 50, "feature-classifier": 10},
    ),
    # How to look.
    Rule(
        "channels",
        lambda f: f.channels not in (1, 3),
        "the images have other channels than grey or RGB, and all of them are used",
        CHANNELS_CASE,
        settings=lambda f: {"channels": f.channels},
    ),
    Rule(
        "long images",
        cut_along,
        "images are twice as long as wide or more: square tiles keep the shape and the detail of defects",
        LONG_CASE,
        settings=square_tiles,
    ),
    Rule(
        "small defects",
        lambda f: small_defects(f) and not tiny_defects(f),
        f"small defects would have fewer than {SEEN:.0f} px in a view of {DEFAULT_VIEW}: a larger one shows them",
        SMALL_CASE,
        settings=larger_view,
    ),
    Rule(
        "tiny defects",
        tiny_defects,
        f"small defects would have fewer than {SEEN:.0f} px even in a view of {LARGEST_VIEW}: tiles show them, or at "
        "least that view where only whole images are labelled",
        LARGE_CASE,
        settings=tiles,
    ),
    Rule(
        "large images",
        large_image_unknown_defects,
        f"images are more than {LARGE} times the view and nothing tells how small defects are: tiles miss less, or a "
        "large view where only whole images are labelled",
        LARGE_CASE,
        settings=tiles,
    ),
    # What else to try.
    Rule(
        "few defects to cut out",
        lambda f: 0 < f.rarest < FEW and f.masked_training > 0 and "good" in f.training_truth,
        "real defects pasted on good images are seen on many surfaces: try --synthetic with a recipe of one step, "
        "{kind: paste}, beside learning without; classifiers gain, segmenters at times",
        PASTE_CASE,
        suggests=True,
    ),
    # What to beware of.
    Rule(
        "too rare a class",
        lambda f: any(f.labelled_training.get(name, 0) < LEAST_OF_CLASS for name in f.defects_training)
        and not several_classes(f),
        f"a class has fewer than {LEAST_OF_CLASS} images to learn from that show it alone: what learns labels does "
        "not take it; add some, or leave the class out",
        warns=True,
    ),
    Rule(
        "twins across splits",
        lambda f: f.duplicates_across_splits > 0,
        "nearly the same image lies on both sides of a split, so figures may flatter; see `blemish data audit`",
        warns=True,
    ),
    Rule(
        "few of the bits",
        lambda f: f.bits == 16 and f.brightest < DARK,
        f"no pixel is brighter than {DARK:.1%} of full scale, as of 12 bits in files of 16: networks see such images "
        "nearly black; multiply them to the full range, here and on the line",
        warns=True,
    ),
    Rule(
        "unreadable",
        lambda f: f.unreadable > 0,
        "files cannot be read; see `blemish data audit`",
        warns=True,
    ),
    Rule(
        "sizes from test",
        lambda f: f.sizes_from_test and f.small_defect_side is not None,
        "the sizes of defects are those of test images, for there are no others; they decide on the view alone",
        warns=True,
    ),
)  # fmt: skip
