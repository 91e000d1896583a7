"""A layout of files: how to recognise it, read it and, where that makes sense, write it."""

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from blemish.dataset.sample import Dataset, Sample


@dataclass(frozen=True)
class DataSource:
    """The input of a reader: the path, where relative paths start if not there, and the option after the colon."""

    path: Path
    root: Path | None = None
    option: str = ""


@dataclass(frozen=True)
class Convention:
    """How a layout says that an image is good, where no folder, column or class says so."""

    annotation: str = ""  # what an image's annotation is called, such as "label file"; "": the layout has none
    empty_is_good: bool = True  # whether an annotation without a defect says that the image is good
    absent_is_good: bool = False  # whether the lack of an annotation does


@dataclass(frozen=True)
class Format:
    """One layout. `looks_like` is cheap (lists folders, reads a line), and at most one format claims a place.

    `read` reports what is there and decides nothing: a sample's `label` and `evidence` where a folder, file name or
    column states a label; its `mask`, `boxes` and `shapes` as annotated, whatever their classes are called: empty
    where the annotation is, None where there is none. What cannot be used is set aside with
    `annotations.warn_skipped`. `resolve.resolve_labels` makes labels of all that, the same for every format.
    """

    description: str
    looks_like: Callable[[Path], bool]
    read: Callable[[DataSource], list[Sample]]
    write: Callable[[Dataset, Path], list[str]] | None = None  # returns a line for each loss
    has_root: bool = False  # whether it holds paths that may start elsewhere
    has_option: bool = False
    convention: Convention = field(default_factory=Convention)
    refused: str = ""  # what is set aside, or refused, beside what every layout sets aside
