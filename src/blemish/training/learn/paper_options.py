"""placeholder to be filled"""

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class PaperValue:
    """The value of an option as a paper has it, and where: a section, table or the authors' code."""

    option: str
    value: Any
    source: str


@dataclass(frozen=True)
class PaperPreset:
    """Values of a paper, and what of its setup cannot be had here."""

    values: tuple[PaperValue, ...]
    missing: str = ""


PAPERS: dict[str, PaperPreset] = {}
