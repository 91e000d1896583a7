"""Maps of an image that are made when they are first asked for.

Most parts are good: the raw map of the network then lies below every threshold, and nobody looks at a heat map of the
image's size. Enlarging and blending give means of raw values, so no pixel is above the largest of them: that bound is
known before a map is made, and where it is below a threshold there is nothing to search.
"""

from collections.abc import Callable

import numpy as np

from blemish.arrays import FloatMap

# Share of the largest absolute value by which the rounding of weights may lift a mean above all of its values.
ROUNDING = 1e-4


class LazyMap:
    """A map (H, W) or (K, H, W), made by a function when its `values` are first read.

    No value of it is above `bound`; NaN where that is not known. A copy, or what is read from a pickle, holds the
    values.
    """

    def __init__(self, make: Callable[[], FloatMap], bound: float) -> None:
        self._make: Callable[[], FloatMap] | None = make
        self._values: FloatMap | None = None
        self.bound = bound

    @classmethod
    def of(cls, values: FloatMap, bound: float | None = None) -> "LazyMap":
        """A map that is there already."""
        made = cls(lambda: values, float(values.max(initial=-np.inf)) if bound is None else bound)
        made._values, made._make = values, None
        return made

    @property
    def values(self) -> FloatMap:
        make = self._make
        if self._values is None and make is not None:  # two threads may both make it: the values are the same
            self._values = make()
            self._make = None  # what it was made from may be freed
        assert self._values is not None
        return self._values

    @property
    def made(self) -> bool:
        return self._values is not None

    def __reduce__(self) -> tuple[Callable[..., "LazyMap"], tuple[FloatMap, float]]:
        return LazyMap.of, (self.values, self.bound)


def upper_bound(values: FloatMap) -> float:
    """What no weighted mean of the values exceeds, whatever the rounding; NaN where one of the values is."""
    low, high = float(values.min()), float(values.max())
    return high + ROUNDING * max(abs(low), abs(high))
