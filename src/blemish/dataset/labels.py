"""The evidence of an image's label, and the usual names of good, defective and ignored things."""

import re
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from enum import StrEnum
from typing import Literal

from blemish.dataset.sample import GOOD

Unlabelled = Literal["good", "unknown"]  # what an image is of which nothing says anything


class LabelEvidence(StrEnum):
    """The source of the label good or defective."""

    FOLDER = "folder name"
    FILE_NAME = "file name"
    COLUMN = "column"
    CLASS = "class"  # it has boxes, outlines or pixels of a class that means good, and no others
    ANNOTATION = "annotation"
    EMPTY_ANNOTATION = "empty annotation"
    MASK = "mask"
    EMPTY_MASK = "empty mask"
    CONVENTION = "layout convention"  # it has no annotation, which means good in this layout
    PERSON = "person"  # on the labelling page of a station
    OPTION = "option"  # it has no annotation, and `unlabelled` is "good"
    NONE = "none"  # nothing: it is neither good nor defective


GOOD_NAMES = {
    "good", "ok", "normal", "pass", "passed", "flawless", "intact", "defect-free", "defectfree", "no-defect",
    "nodefect", "no-defects", "non-defective", "nondefective", "free-of-defects", "without-defect",
}  # fmt: skip
DEFECT_NAMES = {
    "defect", "defects", "defective", "bad", "ng", "nok", "not-ok", "not-good", "abnormal", "anomaly", "anomalous",
    "anomalies", "fail", "failed", "faulty",
}  # fmt: skip
BACKGROUND_NAMES = {"background", "back-ground", "bg", "unlabeled", "unlabelled"}
IGNORE_NAMES = {"ignore", "ignored", "void", "dont-care", "don't-care", "dontcare"}
# Words that may stand before or after "ok" or "good" in the name of a folder without making it doubtful.
_PLACES = {
    "front", "back", "rear", "left", "right", "top", "bottom", "upper", "lower", "inner", "outer", "inside", "outside",
    "side", "view", "cam", "camera", "image", "images", "img", "imgs", "photo", "photos", "picture", "pictures", "part",
    "parts", "piece", "pieces", "sample", "samples", "product", "products", "item", "items", "lot", "batch", "station",
    "train", "training", "tuning", "val", "valid", "validation", "test", "testing", "set", "data", "class",
}  # fmt: skip
_LETTERS = set("abcdefghijklmopqrstuvwxyz")  # of sides or cameras; without n, as in "n.ok"
_good_names: ContextVar[frozenset[str]] = ContextVar("good_names", default=frozenset())


@contextmanager
def extra_good_names(names: Iterable[str]) -> Iterator[None]:
    """While it lasts, these class names mean good as well."""
    token = _good_names.set(frozenset(name.strip().casefold() for name in names))
    try:
        yield
    finally:
        _good_names.reset(token)


def is_good_name(name: str) -> bool:
    """Whether a folder or class of this name is of good parts: `ok`, `0.normal`, `good_01`, `OK front`."""
    if name.strip().casefold() in _good_names.get():
        return True
    words = [word.rstrip("0123456789") for word in _words(name)]
    named = [word for word in words if word and word not in _PLACES and word not in _LETTERS]
    return "-".join(named) in GOOD_NAMES


def is_defect_name(name: str) -> bool:
    """Whether the name says no more than that parts are defective: `ng`, `1.abnormal`."""
    words = _words(name)
    named = words[1:] if words and words[0].isdigit() else words
    return name.strip().casefold() not in _good_names.get() and "-".join(named) in DEFECT_NAMES


def is_doubtful_name(name: str) -> bool:
    """Whether a name that is taken for a defect class may mean good: a number, or a word for good among others."""
    words = _words(name)
    if is_good_name(name) or is_defect_name(name):
        return False
    return all(word.isdigit() for word in words) or not GOOD_NAMES.isdisjoint(words)


def is_background_name(name: str) -> bool:
    """Whether the name is of what is no class: `background`, `0 background`."""
    words = _words(name)
    return "-".join(words[1:] if words and words[0].isdigit() else words) in BACKGROUND_NAMES


def is_ignore_name(name: str) -> bool:
    return "-".join(_words(name)) in IGNORE_NAMES


def normalize_label(name: str) -> str:
    """Class name as it is, but GOOD for every usual word for it."""
    return GOOD if is_good_name(name) else name.strip()


def derive_label(labels: Iterable[str]) -> str | None:
    """An image's label by those of its defects: GOOD without any, theirs where all are of one class, else None."""
    names = set(labels)
    return GOOD if not names else names.pop() if len(names) == 1 else None


def _words(name: str) -> list[str]:
    return [word for word in re.split(r"[\s_.\-]+", name.strip().casefold()) if word]
