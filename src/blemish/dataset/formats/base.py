"""A layout of files: how to recognise it, read it and, where that makes sense, write it."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from blemish.dataset.sample import Dataset, Sample


@dataclass(frozen=True)
class DataSource:
    """What a reader is given: the place, where relative paths start if not there, and the option after the colon."""

    path: Path
    root: Path | None = None
    option: str = ""


@dataclass(frozen=True)
class Format:
    """One layout. `looks_like` is cheap (lists folders, reads a line), and at most one format claims a place."""

    description: str
    looks_like: Callable[[Path], bool]
    read: Callable[[DataSource], list[Sample]]
    write: Callable[[Dataset, Path], list[str]] | None = None  # returns a line for each loss
    has_root: bool = False  # whether it holds paths that may start elsewhere
    has_option: bool = False
