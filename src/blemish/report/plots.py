"""Plots of scores as inline SVG, whose text and axes take the colour of the page around them."""

import io
import re
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from blemish.inspection.result import Verdict

Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]

GOOD, DEFECTIVE, REVIEW, REJECT = "#0d9488", "#dc2626", "#d97706", "#b91c1c"
LEVEL, BEHIND = "#0e6ba8", "#8a94a3"
WIDE = 10  # times the smallest cost, from which on costs are drawn on a logarithmic scale
_INK = "#123457"  # stands for the page's own colour, and is replaced by it
_STYLE: Any = {
    "svg.fonttype": "none",
    "svg.hashsalt": "blemish",
    "font.family": "sans-serif",
    "font.size": 10,
    "text.color": _INK,
    "axes.edgecolor": _INK,
    "axes.labelcolor": _INK,
    "xtick.color": _INK,
    "ytick.color": _INK,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.linewidth": 0.6,
    "legend.frameon": False,
}


def score_histogram(scores: Floats, defective: Bools, review: float | None, reject: float | None) -> str:
    """Scores of N images by truth, with the two thresholds."""

    def draw(axes: Any) -> None:
        edges = np.histogram_bin_edges(scores, bins=min(40, max(8, len(scores) // 4)))
        for chosen, colour, name in ((~defective, GOOD, "good"), (defective, DEFECTIVE, "defective")):
            if chosen.any():
                axes.hist(scores[chosen], edges, color=colour, alpha=0.65, label=f"{name} ({int(chosen.sum())})")
        for value, colour, name in ((review, REVIEW, "review"), (reject, REJECT, "reject")):
            if value is not None:
                axes.axvline(value, color=colour, linestyle="--", linewidth=1.4, label=f"{name} from {value:.4g}")
        axes.yaxis.get_major_locator().set_params(integer=True)
        axes.set(xlabel="score", ylabel="images")
        _legend_above(axes)

    return _svg("scores", (10.8, 3.1), draw)


def roc(scores: Floats, defective: Bools, verdicts: Sequence[Verdict]) -> str:
    """Share of defective images found against share of good ones, and where the verdicts stand on the curve."""

    def draw(axes: Any) -> None:
        hits, alarms = _counts(scores, defective)
        axes.plot([0, 1], [0, 1], color=_INK, linewidth=0.6, linestyle=":")
        axes.plot(alarms / alarms[-1], hits / hits[-1], color=DEFECTIVE, linewidth=1.8, clip_on=False)
        for chosen, colour, name, mark in _operating_points(verdicts):
            x, y = chosen[~defective].mean(), chosen[defective].mean()
            axes.plot(x, y, mark, color=colour, markersize=8, label=name, clip_on=False)
        axes.set(xlabel="good images stopped", ylabel="defective images stopped", xlim=(0, 1), ylim=(0, 1))
        _legend_above(axes)

    return _svg("roc", (5.3, 3.7), draw)


def precision_recall(scores: Floats, defective: Bools, verdicts: Sequence[Verdict]) -> str:
    """Share of stopped images that are defective against share of defective images stopped."""

    def draw(axes: Any) -> None:
        hits, alarms = _counts(scores, defective)
        found, total = hits[1:], hits[-1]
        precision = found / (found + alarms[1:])
        axes.step([0, *(found / total)], [precision[0], *precision], color=DEFECTIVE, linewidth=1.8, clip_on=False)
        axes.axhline(total / len(scores), color=_INK, linewidth=0.6, linestyle=":")
        for chosen, colour, name, mark in _operating_points(verdicts):
            if chosen.any():
                axes.plot(
                    chosen[defective].mean(), defective[chosen].mean(), mark, color=colour, markersize=8, label=name,
                    clip_on=False,
                )  # fmt: skip
        axes.set(xlabel="recall", ylabel="precision", xlim=(0, 1), ylim=(0, 1.005))
        _legend_above(axes)

    return _svg("pr", (5.3, 3.7), draw)


def differences(rows: Sequence[tuple[str, float, float, float]]) -> str:
    """For each method its difference to the best, low and high end of the interval: the best first, at 0."""

    def draw(axes: Any) -> None:
        places = np.arange(len(rows))
        for place, (_, value, low, high) in zip(places, rows, strict=True):
            colour = BEHIND if high < 0 else LEVEL
            axes.plot([low, high], [place, place], color=colour, linewidth=2.2, solid_capstyle="butt", clip_on=False)
            axes.plot(value, place, "o", color=colour, markersize=7, clip_on=False)
        axes.axvline(0, color=_INK, linewidth=0.8, linestyle=":")
        axes.set_yticks(places, [name for name, *_ in rows])
        axes.set(xlabel="difference to the best, with its 95 % interval", ylim=(len(rows) - 0.5, -0.5))
        axes.tick_params(axis="y", length=0)

    return _svg("differences", (10.8, 0.9 + 0.42 * len(rows)), draw)


def pareto(
    name: str,
    quality: dict[str, float],
    cost: dict[str, float],
    front: Sequence[str],
    chosen: str,
    labels: tuple[str, str],
) -> str:
    """Quality against cost of each method, labels (x, y); a line joins those that no other beats in both."""
    from matplotlib.ticker import LogLocator, NullLocator

    def draw(axes: Any) -> None:
        axes.step([cost[m] for m in front], [quality[m] for m in front], where="post", color=LEVEL, linewidth=1.2)
        for number, method in enumerate(sorted(quality, key=lambda m: cost[m])):
            colour = LEVEL if method in front else BEHIND
            size, mark = (11, "*") if method == chosen else (7, "o")
            order = 4 if method in front else 3
            axes.plot(cost[method], quality[method], mark, color=colour, markersize=size, zorder=order, clip_on=False)
            # By turns below and above, so that the names of neighbours stand apart.
            below = number % 2 == 0
            axes.annotate(method, (cost[method], quality[method]), (4, -5 if below else 5), textcoords="offset points",
                          fontsize=9, va="top" if below else "bottom")  # fmt: skip
        if max(cost.values()) > WIDE * min(cost.values()) > 0:
            axes.set_xscale("log")
            axes.xaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
            axes.xaxis.set_major_formatter("{x:g}")
            axes.xaxis.set_minor_locator(NullLocator())
        axes.margins(x=0.25, y=0.2)
        bounds = axes.get_ylim()
        axes.set_yticks([tick for tick in axes.get_yticks() if bounds[0] <= tick < 1 + 1e-9])  # there is no more than 1
        axes.set(xlabel=labels[0], ylabel=labels[1], ylim=bounds)

    return _svg(name, (5.3, 3.7), draw)


def _counts(scores: Floats, defective: Bools) -> tuple[Floats, Floats]:
    """Defective and good images at or above each distinct score, from none to all."""
    order = np.argsort(-scores, kind="stable")
    last = np.append(np.flatnonzero(np.diff(scores[order])), len(scores) - 1)
    hits = np.cumsum(defective[order])[last]
    return np.append(0.0, hits), np.append(0.0, last + 1 - hits)


def _operating_points(verdicts: Sequence[Verdict]) -> list[tuple[Bools, str, str, str]]:
    stopped = np.array([verdict != Verdict.PASS for verdict in verdicts])
    rejected = np.array([verdict == Verdict.REJECT for verdict in verdicts])
    points = [(stopped, REVIEW, "review or reject", "o"), (rejected, REJECT, "reject", "D")]
    return points[1:] if (stopped == rejected).all() else points


def _legend_above(axes: Any) -> None:
    handles, labels = axes.get_legend_handles_labels()
    if labels:
        axes.legend(handles, labels, loc="lower left", bbox_to_anchor=(0, 1), ncols=4, borderaxespad=0.2, fontsize=9,
                    handlelength=1.4, columnspacing=1.2)  # fmt: skip


def _svg(name: str, size: tuple[float, float], draw: Callable[[Any], None]) -> str:
    import matplotlib
    from matplotlib.figure import Figure

    with matplotlib.rc_context(_STYLE):
        figure = Figure(figsize=size, layout="constrained")
        draw(figure.add_subplot())
        stream = io.StringIO()
        figure.savefig(stream, format="svg", transparent=True)
    text = stream.getvalue()
    text = re.sub(r"<metadata>.*?</metadata>", "", text[text.index("<svg") :], flags=re.DOTALL)
    text = re.sub(r"^<svg[^>]*>", lambda head: re.sub(r' (width|height)="[^"]*"', "", head[0]), text)
    # Several drawings share one page, so the names inside each must be its own.
    text = re.sub(r'(id="|href="#|url\(#)', rf"\g<1>{name}-", text)
    return text.replace(_INK, "currentColor")
