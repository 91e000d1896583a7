"""Precision against recall, one line a class."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from blemish.report.plots import _legend_above, _svg

Floats = NDArray[np.float64]
Curve = tuple[Floats, Floats, float]  # recall, precision, average precision
MOST_POINTS = 400  # of a curve: more cannot be seen


def draw_curves(name: str, curves: dict[str, Curve]) -> str:
    """One line a class, as inline SVG; its average precision stands in the legend."""

    def draw(axes: Any) -> None:
        for label, (recall, precision, value) in curves.items():
            keep = np.unique(np.linspace(0, len(recall) - 1, MOST_POINTS).astype(int)) if len(recall) else slice(0)
            axes.plot(
                [0, *recall[keep]], [*precision[:1], *precision[keep]] if len(recall) else [0], linewidth=1.6,
                label=f"{label} {value:.3f}", clip_on=False,
            )  # fmt: skip
        axes.set(xlabel="recall", ylabel="precision", xlim=(0, 1), ylim=(0, 1.005))
        _legend_above(axes)

    return _svg(name, (10.8, 4.2), draw)
