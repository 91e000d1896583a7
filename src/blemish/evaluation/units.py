"""Independent units: images of one group, and copies of one image, tell no more than one image, however many they are.

Every unit weighs the same and its images share its weight, so the number behind a rank, a rate, an interval or a proof
is that of units. A rate is the mean over units of the share of a unit's images; where those agree, its interval is the
exact one of so many units, and else wider than it need be.
"""

import logging
from collections import Counter
from collections.abc import Hashable, Sequence

import numpy as np

from blemish.arrays import Flags, Scores
from blemish.dataset.duplicates import join_duplicates
from blemish.dataset.sample import Sample
from blemish.evaluation.intervals import RateEstimate, estimate_rate

Units = Sequence[Hashable]  # of each image; None: a unit of its own


def find_units(samples: Sequence[Sample]) -> list[str | None]:
    """The unit of each sample: its group, with all copies of its images (`join_duplicates`); None where it is alone."""
    first = join_duplicates(samples, logging.DEBUG)
    sizes = Counter(first)
    return [(samples[i].group or str(samples[i].image)) if sizes[i] > 1 else None for i in first]


def unit_weights(units: Units) -> Scores:
    """(N,) share of each image in its unit; they sum up to the number of units."""
    sizes = Counter(units)
    return np.array([1.0 if unit is None else 1 / sizes[unit] for unit in units], np.float64)


def count_units(units: Units) -> int:
    return round(float(unit_weights(units).sum()))


def count_hits(hits: Flags, units: Units) -> float:
    """The sum over units of the share of images with a hit."""
    return float(unit_weights(units)[hits].sum())


def select_units(units: Units, chosen: Flags) -> list[Hashable]:
    return [unit for unit, flag in zip(units, chosen.tolist(), strict=True) if flag]


def estimate_share(hits: Flags, units: Units | None = None) -> RateEstimate:
    """The rate of hits among N images (N at least 1), and its 95 % interval for the number of units."""
    units = [None] * len(hits) if units is None else units
    return estimate_rate(count_hits(hits, units), count_units(units))


def describe_images(kind: str, units: Units) -> str:
    """Such as "100 good images", or "100 good images of only 5 parts"."""
    count, parts = len(units), count_units(units)
    texts = {  # whole ones, for their translations
        "good": f"{count} good images",
        "defective": f"{count} defective images",
        "good validation": f"{count} good validation images",
        "defective validation": f"{count} defective validation images",
    }
    if parts == count:
        return texts[kind]
    return f"{texts[kind]} of only 1 part" if parts == 1 else f"{texts[kind]} of only {parts} parts"
