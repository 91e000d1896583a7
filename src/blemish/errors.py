"""The errors a user can correct. Every one carries a single line: what is wrong, and how to correct it."""

import difflib
from collections.abc import Iterable


def unknown(kind: str, name: str, known: Iterable[str]) -> str:
    """The message for a name that is not known: `unknown method 'patchcor'; did you mean patchcore?`."""
    names = sorted(set(known))
    near = difflib.get_close_matches(name, names, n=3, cutoff=0.5)
    if near:
        return f"unknown {kind} '{name}'; did you mean {', '.join(near)}?"
    return f"unknown {kind} '{name}'; known are {', '.join(names) or 'none'}"


class BlemishError(Exception):
    """Bad input or a missing piece; the command line prints it as one line and exits with code 2."""


class ImageError(BlemishError):
    """An image or mask that cannot be read, or does not fit what it is used with."""


class InspectionError(BlemishError):
    """A step after the reading of an image failed, through no fault of the image."""


class MaskError(ImageError):
    """A mask whose values do not say which pixels are marked: the whole set is likely to be misunderstood."""


class DataError(BlemishError):
    """A dataset that cannot be understood, or lacks the annotations that a method requires."""


class BundleError(BlemishError):
    """A bundle that is damaged, altered, or of a version this program does not know."""


class OptionError(BlemishError):
    """An unknown option, or a value that does not fit it."""


class DecisionError(BlemishError):
    """A threshold or rule that cannot be understood."""


class ExportError(BlemishError):
    """A graph that could not be exported, or does not agree with the network it came from."""


class MissingExtraError(BlemishError):
    """A feature of blemish whose libraries are not installed."""
