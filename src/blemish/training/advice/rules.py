"""The advisor's rules in one table: condition, effect, reason, and the benchmark behind it.

Points add up: the more a method has, the higher it ranks. A method whose required annotations the training images lack
is left out whatever its points. A rule without `evidence` has a reason but no measurement yet; `blemish plan` says so.
Measured numbers are never written here: evidence names rows of a benchmark, from which the pages of the documentation
are generated.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from blemish.dataset.fingerprint import Fingerprint
from blemish.dataset.sample import FEW
from blemish.training.advice.conditions import (
    DEFAULT_VIEW,
    ENOUGH,
    LARGE,
    MAX_VIEW,
    MIN_DEFECT_PX,
    boxes_given,
    few_or_no_defects,
    is_cut_into_squares,
    labels_only,
    large_image_unknown_defects,
    larger_view,
    masks_given,
    shows_several_classes,
    small_defects,
    square_tiles,
    tiles,
    tiny_defects,
)
from blemish.training.advice.measured_points import POINTS
from blemish.translation import Message

MAX_DARK = 1 / 8  # of full scale: images without a brighter pixel do not use their bits
MIN_OF_CLASS = 2  # images that a class needs to be trained on its label
MANY_GOOD = 50
FEW_DEFECTS_POINTS = 20  # of every method that learns from good images, where there are too few defects for others


@dataclass(frozen=True)
class Evidence:
    """Rows of a benchmark that support a rule: the file, the values that select its rows, the metrics that count."""

    rows: str  # name of a file in benchmarks/rows, without its ending
    metrics: tuple[str, ...]
    where: Mapping[str, tuple[Any, ...]] = field(default_factory=dict)  # column -> accepted values

    def selects(self, row: Mapping[str, Any]) -> bool:
        """Whether a row of the file is one of these; options that are all defaults count as an empty text."""
        return all((row.get(key) or "") in values for key, values in self.where.items())

    def __str__(self) -> str:
        keys = "; ".join(
            f"{key} {', '.join(map(str, values))}" for key, values in self.where.items() if key != "method"
        )
        return f"{', '.join(self.metrics)} in benchmarks/rows/{self.rows}.jsonl" + (f" ({keys})" if keys else "")


@dataclass(frozen=True)
class AdviceRule:
    name: str
    when: Callable[[Fingerprint], bool]
    message: Message
    evidence: tuple[Evidence, ...] = ()
    points: dict[str, int] = field(default_factory=dict)  # method -> points
    settings: Callable[[Fingerprint], dict[str, Any]] | None = None  # of the run: image_size, tile, channels
    warns: bool = False
    suggests: bool = False  # the reason says what else to try

    @property
    def reason(self) -> str:
        """In English."""
        return str(self.message)


GOOD_IMAGES = (
    Evidence(
        "unsupervised",
        ("image AUROC",),
        {"set": ("bottle", "wood", "tile by tile", "elpv", "pill", "metal plate"), "options": ("",)},
    ),
)
ALIGNMENT = (Evidence("conditions", ("image AUROC",), {"options": ("as it is", "moved")}),)
FEW_GOOD_IMAGES = (Evidence("conditions", ("image AUROC",), {"options": ("10 good",)}),)
LABELS = (Evidence("classification", ("macro F1",), {"options": ("",)}),)
MASKS = (Evidence("segmentation", ("pixel AP", "image AUROC"), {"options": ("",)}),)
BOXES = (Evidence("detection", ("mAP50",), {"options": ("",)}),)
LONG_IMAGES = (Evidence("views", ("image AUROC", "AUPRO", "ms an image"), {"set": ("long",)}),)
SMALL_DEFECTS = (Evidence("views", ("image AUROC", "AUPRO"), {"set": ("fine",)}),)
LARGE_IMAGES = (Evidence("views", ("image AUROC", "AUPRO"), {"set": ("large",)}),)
CHANNELS = (Evidence("views", ("image AUROC",), {"set": ("channels",)}),)
HANDFUL = (
    Evidence(
        "few", ("accuracy",), {"set": ("neu", "neu to tile"), "shots": (5,), "method": ("prototypical", "matching")}
    ),
)
MIXED = (
    Evidence(
        "few",
        ("image AUROC", "pixel AUROC"),
        {
            "method": ("patchcore", "supersimplenet", "unet"),
            "set": ("tile",),
            "options": ("", "masks"),
            "settings": ("",),
        },
    ),
)
PASTED_DEFECTS = (
    Evidence(
        "few",
        ("macro F1", "IoU"),
        {
            "method": ("classifier", "unet"),
            "set": ("tile",),
            "options": ("none", "paste"),
            "settings": ("", "steps=300"),
        },
    ),
)

RULES: tuple[AdviceRule, ...] = (
    # Which annotations to use.
    AdviceRule(
        "good images",
        lambda f: "good" in f.training_annotations,
        Message("there are good training images; a memory bank has nothing to tune and is ready after one pass"),
        GOOD_IMAGES,
        POINTS["good images"],
    ),
    AdviceRule(
        "no or few labelled defects",
        few_or_no_defects,
        Message(
            "fewer than {number} defective training images: a network trained on them would memorise them",
            {"number": ENOUGH},
        ),
        MIXED,
        points=dict.fromkeys(POINTS["good images"], FEW_DEFECTS_POINTS),
    ),
    AdviceRule(
        "some labelled defects",
        lambda f: 0 < f.defective_training < ENOUGH and "good" in f.training_annotations,
        Message(
            "the few labelled defects can be used: try supersimplenet too, one network that is trained on good images, "
            "noise and these"
        ),
        MIXED,
        suggests=True,
    ),
    AdviceRule(
        "few good images",
        lambda f: 0 < f.good_training < MANY_GOOD,
        Message(
            "fewer than {number} good images: a bank of single patches needs fewer than a fitted distribution",
            {"number": MANY_GOOD},
        ),
        FEW_GOOD_IMAGES,
        points={"patchcore": 10, "padim": -10, "efficientad": -5, "fastflow": -5, "autoencoder": -4, "vae": -4},
    ),
    AdviceRule(
        "aligned",
        lambda f: f.aligned and f.good_training > 0,
        Message("the images are aligned, which suits a model with separate statistics for each position"),
        ALIGNMENT,
        points={"padim": 6, "siamese": 4},
    ),
    AdviceRule(
        "not aligned",
        lambda f: not f.aligned and f.good_training > 0,
        Message("the images are not aligned: a method that compares positions sees differences that are no defects"),
        ALIGNMENT,
        points={"padim": -20, "siamese": -10},
    ),
    AdviceRule(
        "masks of defects",
        masks_given,
        Message(
            "masks of {number} defective images, or no other annotation: a segmenter learns what the defects are, "
            "where and how much",
            {"number": ENOUGH},
        ),
        MASKS,
        points=POINTS["masks of defects"],
    ),
    AdviceRule(
        "boxes of defects",
        boxes_given,
        Message("defects are annotated with boxes: a detector learns what they are and where"),
        BOXES,
        points=POINTS["boxes of defects"],
    ),
    AdviceRule(
        "labels only",
        labels_only,
        Message("only whole images are labelled: a classifier learns what the defect is"),
        LABELS,
        points=POINTS["labels only"],
    ),
    AdviceRule(
        "labels in addition to boxes or masks",
        lambda f: f.rarest >= FEW and "label" in f.training_annotations and not labels_only(f),
        Message(
            "every class has {number} images or more, so a classifier suits where only the class matters",
            {"number": FEW},
        ),
        points={"classifier": 76, "feature-classifier": 68, "cascade": 50},
    ),
    AdviceRule(
        "few images of a class",
        lambda f: 0 < f.rarest < 10,
        Message("a class has fewer than 10 images: comparing with examples needs fewer than fitting a layer"),
        HANDFUL,
        points={"prototypical": 60, "matching": 50, "feature-classifier": 10},
    ),
    # Size and tiling of the input.
    AdviceRule(
        "channels",
        lambda f: f.channels not in (1, 3),
        Message("the images have other channels than grey or RGB, and all of them are used"),
        CHANNELS,
        settings=lambda f: {"channels": f.channels},
    ),
    AdviceRule(
        "long images",
        is_cut_into_squares,
        Message("images are twice as long as wide or more: square tiles keep the shape and the detail of defects"),
        LONG_IMAGES,
        settings=square_tiles,
    ),
    AdviceRule(
        "small defects",
        lambda f: small_defects(f) and not tiny_defects(f),
        Message(
            "small defects would have fewer than {side:.0f} px at an input size of {view}: a larger one shows them",
            {"side": MIN_DEFECT_PX, "view": DEFAULT_VIEW},
        ),
        SMALL_DEFECTS,
        settings=larger_view,
    ),
    AdviceRule(
        "tiny defects",
        tiny_defects,
        Message(
            "small defects would have fewer than {side:.0f} px even at an input size of {view}: tiles show them, or at "
            "least that size where only whole images are labelled",
            {"side": MIN_DEFECT_PX, "view": MAX_VIEW},
        ),
        LARGE_IMAGES,
        settings=tiles,
    ),
    AdviceRule(
        "large images",
        large_image_unknown_defects,
        Message(
            "images are more than {number} times the input size and the size of defects is unknown: tiles miss fewer, "
            "or a large input size where only whole images are labelled",
            {"number": LARGE},
        ),
        LARGE_IMAGES,
        settings=tiles,
    ),
    # What else to try.
    AdviceRule(
        "few defects with masks",
        lambda f: 0 < f.rarest < FEW and f.masked_training > 0 and "good" in f.training_annotations,
        Message(
            "real defects can be pasted on many good surfaces: try --synthetic with a specification of one step, "
            "{step}, and compare with training without; classifiers gain, segmenters sometimes",
            {"step": "{kind: paste}"},
        ),
        PASTED_DEFECTS,
        suggests=True,
    ),
    # Warnings.
    AdviceRule(
        "too rare a class",
        lambda f: any(f.labelled_training.get(name, 0) < MIN_OF_CLASS for name in f.defects_training)
        and not shows_several_classes(f),
        Message(
            "a class has fewer than {number} training images that show it alone: methods that learn labels cannot "
            "learn it; add some, or leave the class out",
            {"number": MIN_OF_CLASS},
        ),
        warns=True,
    ),
    AdviceRule(
        "duplicates across splits",
        lambda f: f.duplicates_across_splits > 0,
        Message("nearly the same image is in two splits, so metrics may be too good; see `blemish data audit`"),
        warns=True,
    ),
    AdviceRule(
        "unused bits",
        lambda f: f.bits == 16 and f.brightest < MAX_DARK,
        Message(
            "no pixel is brighter than {share:.1%} of full scale, as with 12 bits in files of 16: networks see such "
            "images nearly black; scale them to the full range, here and on the line",
            {"share": MAX_DARK},
        ),
        warns=True,
    ),
    AdviceRule(
        "unreadable",
        lambda f: f.unreadable > 0,
        Message("files cannot be read; see `blemish data audit`"),
        warns=True,
    ),
    AdviceRule(
        "sizes from test",
        lambda f: f.sizes_from_test and f.small_defect_side is not None and bool(f.splits_given),
        Message(
            "the sizes of defects are those of test images, since there are no others; they only determine the input "
            "size and the tiles"
        ),
        warns=True,
    ),
    AdviceRule(
        "defects from test",
        lambda f: f.sizes_from_test and not f.splits_given,
        Message(
            "the method learns from good images, so that its training leaves the defects of data without splits to the "
            "test; their number, annotations and sizes had a say in the choice of method, input size and tiles: give "
            "splits for a choice without test images"
        ),
        warns=True,
    ),
)  # fmt: skip
