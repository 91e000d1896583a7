"""Plots of scores as inline SVG, whose text and axes take the colour of the page around them."""

import io
import re
import warnings
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from blemish.arrays import Flags, Scores
from blemish.inspection.result import Verdict
from blemish.report.text import use_fonts
from blemish.translation import Translate

if TYPE_CHECKING:  # evaluation and report are rooms of one floor
    from blemish.evaluation.curves import PrecisionRecallCurve
    from blemish.evaluation.pod_result import PodCurve

GOOD, DEFECTIVE, REVIEW, REJECT = "#0d9488", "#dc2626", "#d97706", "#b91c1c"
EQUAL, WORSE = "#0e6ba8", "#8a94a3"
LEVELS = ("#0e6ba8", "#d97706", "#0d9488", "#b91c1c", "#7c3aed", "#6b7280")  # of contrasts, in turn
LOGARITHMIC_FROM = 10  # times the smallest cost: from there costs are drawn on a logarithmic scale
LEGEND_COLUMNS, LEGEND_SHARE, LEGEND_ROW = 4, 0.88, 0.19  # at most; of the figure's width; height in inches
MAX_POINTS = 400  # of a curve: more cannot be seen
_INK = "#123457"  # stands for the page's own colour, and is replaced by it
_STYLE: Any = {
    "svg.fonttype": "none",
    "svg.hashsalt": "blemish",
    "text.parse_math": False,  # a dollar sign in the name of a class is one
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


def plot_score_histogram(
    scores: Scores, defective: Flags, review: float | None, reject: float | None, t: Translate
) -> str:
    """Scores of N images, good and defective ones, with the two thresholds."""

    def draw(axes: Any) -> None:
        edges = np.histogram_bin_edges(scores, bins=min(40, max(8, len(scores) // 4)))
        for chosen, colour, name in ((~defective, GOOD, t("good")), (defective, DEFECTIVE, t("defective"))):
            if chosen.any():
                axes.hist(scores[chosen], edges, color=colour, alpha=0.65, label=f"{name} ({int(chosen.sum())})")
        for value, colour, name in ((review, REVIEW, t("review")), (reject, REJECT, t("reject"))):
            if value is not None:
                axes.axvline(
                    value,
                    color=colour,
                    linestyle="--",
                    linewidth=1.4,
                    label=t("{name} from {value}", name=name, value=f"{value:.4g}"),
                )
        axes.yaxis.get_major_locator().set_params(integer=True)
        axes.set(xlabel=t("score"), ylabel=t("images"))
        _add_legend(axes)

    return _svg("scores", (10.8, 3.1), draw)


def plot_roc(scores: Scores, defective: Flags, verdicts: Sequence[Verdict], t: Translate) -> str:
    """ROC curve of N images with the operating points of the verdicts."""

    def draw(axes: Any) -> None:
        hits, alarms = _counts(scores, defective)
        axes.plot([0, 1], [0, 1], color=_INK, linewidth=0.6, linestyle=":")
        axes.plot(alarms / alarms[-1], hits / hits[-1], color=DEFECTIVE, linewidth=1.8, clip_on=False)
        for chosen, colour, name, mark in _operating_points(verdicts, t):
            x, y = chosen[~defective].mean(), chosen[defective].mean()
            axes.plot(x, y, mark, color=colour, markersize=8, label=name, clip_on=False)
        axes.set(xlabel=t("good images stopped"), ylabel=t("defective images stopped"), xlim=(0, 1), ylim=(0, 1))
        _add_legend(axes)

    return _svg("roc", (5.3, 3.7), draw)


def plot_precision_recall(scores: Scores, defective: Flags, verdicts: Sequence[Verdict], t: Translate) -> str:
    """Precision-recall curve of N images with the operating points of the verdicts."""

    def draw(axes: Any) -> None:
        hits, alarms = _counts(scores, defective)
        stopped, total = hits[1:], hits[-1]
        precision = stopped / (stopped + alarms[1:])
        axes.step([0, *(stopped / total)], [precision[0], *precision], color=DEFECTIVE, linewidth=1.8, clip_on=False)
        axes.axhline(total / len(scores), color=_INK, linewidth=0.6, linestyle=":")
        for chosen, colour, name, mark in _operating_points(verdicts, t):
            if chosen.any():
                axes.plot(
                    chosen[defective].mean(), defective[chosen].mean(), mark, color=colour, markersize=8, label=name,
                    clip_on=False,
                )  # fmt: skip
        axes.set(xlabel=t("recall"), ylabel=t("precision"), xlim=(0, 1), ylim=(0, 1.005))
        _add_legend(axes)

    return _svg("pr", (5.3, 3.7), draw)


def plot_precision_recall_by_class(name: str, curves: "dict[str, PrecisionRecallCurve]", t: Translate) -> str:
    """Precision-recall curves, one line a class; the legend gives the average precision."""

    def draw(axes: Any) -> None:
        for label, (recall, precision, value) in curves.items():
            keep = np.unique(np.linspace(0, len(recall) - 1, MAX_POINTS).astype(int)) if len(recall) else slice(0)
            axes.plot(
                [0, *recall[keep]], [*precision[:1], *precision[keep]] if len(recall) else [0], linewidth=1.6,
                label=_legend_text(f"{t(label)} {value:.3f}"), clip_on=False,
            )  # fmt: skip
        axes.set(xlabel=t("recall"), ylabel=t("precision"), xlim=(0, 1), ylim=(0, 1.005))
        _add_legend(axes)

    return _svg(name, (10.8, 4.2), draw)


def plot_measured_values(values: dict[str, tuple[Scores, Scores]], labels: Sequence[str], t: Translate) -> str:
    """True and measured values (N,) of several measurements, by their names, of N defects with class names.

    Logarithmic axes, one scale for both; the line is where measured is true, the dotted ones are 25 % beside it.
    """
    from matplotlib.ticker import LogLocator, NullFormatter

    def draw(axes: Any) -> None:
        grid = axes.get_subplotspec().subgridspec(1, len(values))
        axes.set_axis_off()
        panels = [axes.figure.add_subplot(cell) for cell in grid]
        for panel, (name, (true, measured)) in zip(panels, values.items(), strict=True):
            ends = np.array([min(true.min(), measured.min()) / 1.3, max(true.max(), measured.max()) * 1.3])
            for factor, style in ((1.0, "-"), (1.25, ":"), (0.8, ":")):
                panel.plot(ends, factor * ends, style, color=_INK, linewidth=0.8)
            for label in sorted(set(labels)):
                own = np.array([one == label for one in labels])
                panel.plot(true[own], measured[own], "o", markersize=4, alpha=0.7, label=_legend_text(label))
            panel.set(xscale="log", yscale="log", xlim=ends, ylim=ends, aspect="equal")
            panel.set(xlabel=t("true {name}", name=name), ylabel=t("measured"))
            for axis in (panel.xaxis, panel.yaxis):
                axis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0) if ends[1] < 40 * ends[0] else (1.0,)))
                axis.set_major_formatter("{x:g}")
                axis.set_minor_formatter(NullFormatter())
        _add_legend(panels[0])

    return _svg("measured", (10.8, 4.5), draw)


def plot_differences(rows: Sequence[tuple[str, float, float, float, bool]], t: Translate) -> str:
    """For each method its difference to the best, with the low and high end of the interval: the best first, at 0.

    Grey where it is significantly worse.
    """

    def draw(axes: Any) -> None:
        places = np.arange(len(rows))
        for place, (_, value, low, high, worse) in zip(places, rows, strict=True):
            colour = WORSE if worse else EQUAL
            axes.plot([low, high], [place, place], color=colour, linewidth=2.2, solid_capstyle="butt", clip_on=False)
            axes.plot(value, place, "o", color=colour, markersize=7, clip_on=False)
        axes.axvline(0, color=_INK, linewidth=0.8, linestyle=":")
        axes.set_yticks(places, [name for name, *_ in rows])
        axes.set(xlabel=t("difference to the best, with its 95 % interval"), ylim=(len(rows) - 0.5, -0.5))
        axes.tick_params(axis="y", length=0)

    return _svg("differences", (10.8, 0.9 + 0.42 * len(rows)), draw)


def plot_ranking(name: str, rows: Sequence[tuple[str, float, float, float, bool]], label: str, t: Translate) -> str:
    """For each method its metric with the ends of its interval; grey where it is significantly worse than the best."""

    def draw(axes: Any) -> None:
        places = np.arange(len(rows))
        for place, (_, value, low, high, worse) in zip(places, rows, strict=True):
            colour = WORSE if worse else EQUAL
            axes.plot([low, high], [place, place], color=colour, linewidth=2.2, solid_capstyle="butt", clip_on=False)
            axes.plot(value, place, "o", color=colour, markersize=7, clip_on=False)
        axes.set_yticks(places, [method for method, *_ in rows])
        axes.set(xlabel=t("{metric}, with its 95 % interval", metric=label), ylim=(len(rows) - 0.5, -0.5))
        axes.tick_params(axis="y", length=0)

    return _svg(name, (10.8, 0.9 + 0.42 * len(rows)), draw)


def plot_pareto(
    name: str,
    quality: dict[str, float],
    cost: dict[str, float],
    front: Sequence[str],
    chosen: str,
    labels: tuple[str, str],
) -> str:
    """Quality against cost of each method, with labels (x, y); a line joins those on the Pareto front."""
    from matplotlib.ticker import LogLocator, NullLocator

    def draw(axes: Any) -> None:
        axes.step([cost[m] for m in front], [quality[m] for m in front], where="post", color=EQUAL, linewidth=1.2)
        for number, method in enumerate(sorted(quality, key=lambda m: cost[m])):
            colour = EQUAL if method in front else WORSE
            size, mark = (11, "*") if method == chosen else (7, "o")
            order = 4 if method in front else 3
            axes.plot(cost[method], quality[method], mark, color=colour, markersize=size, zorder=order, clip_on=False)
            # Alternately below and above, so that the names of neighbours do not overlap.
            below = number % 2 == 0
            axes.annotate(method, (cost[method], quality[method]), (4, -5 if below else 5), textcoords="offset points",
                          fontsize=9, va="top" if below else "bottom")  # fmt: skip
        if max(cost.values()) > LOGARITHMIC_FROM * min(cost.values()) > 0:
            axes.set_xscale("log")
            axes.xaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
            axes.xaxis.set_major_formatter("{x:g}")
            axes.xaxis.set_minor_locator(NullLocator())
        axes.margins(x=0.25, y=0.2)
        bounds = axes.get_ylim()
        axes.set_yticks([tick for tick in axes.get_yticks() if bounds[0] <= tick < 1 + 1e-9])  # there is no more than 1
        axes.set(xlabel=labels[0], ylabel=labels[1], ylim=bounds)

    return _svg(name, (5.3, 3.7), draw)


def plot_detection(name: str, curves: "Sequence[PodCurve]", t: Translate) -> str:
    """Probability of detection by size, a line for each contrast, with its 90 % band and the observed rates."""

    def draw(axes: Any) -> None:
        from matplotlib.ticker import LogLocator, NullLocator

        axes.axhline(0.9, color=_INK, linewidth=0.6, linestyle=":")
        for number, curve in enumerate(curves):
            colour, points = LEVELS[number % len(LEVELS)], curve.fit.curve
            sizes = [point.size for point in points]
            label = t("contrast {value}", value=f"{curve.strength:g}")
            axes.fill_between(
                sizes, [point.low for point in points], [point.high for point in points], color=colour, alpha=0.15,
                linewidth=0,
            )  # fmt: skip
            axes.plot(sizes, [point.pod for point in points], color=colour, linewidth=1.8, label=label if sizes else "")
            groups = curve.fit.groups
            axes.plot(
                [(group.low * group.high) ** 0.5 for group in groups], [group.hits / group.trials for group in groups],
                "o", color=colour, markersize=5, alpha=0.8, clip_on=False,
                label="" if sizes else t("{name}, no curve", name=label),
            )  # fmt: skip
            if curve.fit.a90 is not None:
                axes.plot(curve.fit.a90, 0.9, "D", color=colour, markersize=6, markeredgecolor="white")
            if curve.fit.a90_95 is not None:
                axes.plot(curve.fit.a90_95, 0.9, ">", color=colour, markersize=7, markeredgecolor="white")
        axes.set_xscale("log")
        axes.xaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
        axes.xaxis.set_major_formatter("{x:g}")
        axes.xaxis.set_minor_locator(NullLocator())
        axes.set(xlabel=t("length of the defect, px"), ylabel=t("probability of detection"), ylim=(0, 1))
        _add_legend(axes)

    return _svg(name, (10.8, 4.2), draw)


def _counts(scores: Scores, defective: Flags) -> tuple[Scores, Scores]:
    """Defective and good images at or above each distinct score, from none to all."""
    thresholds = np.append(np.inf, np.unique(scores)[::-1])
    ordered = (np.sort(scores[defective]), np.sort(scores[~defective]))
    hits, alarms = (np.float64(len(own)) - np.searchsorted(own, thresholds) for own in ordered)
    return hits, alarms


def _operating_points(verdicts: Sequence[Verdict], t: Translate) -> list[tuple[Flags, str, str, str]]:
    stopped = np.array([verdict != Verdict.PASS for verdict in verdicts])
    rejected = np.array([verdict == Verdict.REJECT for verdict in verdicts])
    points = [(stopped, REVIEW, t("review or reject"), "o"), (rejected, REJECT, t("reject"), "D")]
    return points[1:] if (stopped == rejected).all() else points


def _legend_text(text: str) -> str:
    """The text behind a character without width: Matplotlib leaves names out that begin with an underscore."""
    return f"\u200b{text}" if text.startswith("_") else text


def _add_legend(axes: Any) -> None:
    """A legend above the axes, in as many columns as its names leave room for; the figure grows with its rows."""
    handles, labels = axes.get_legend_handles_labels()
    if not labels:
        return
    figure = axes.figure
    for columns in range(LEGEND_COLUMNS, 0, -1):
        legend = axes.legend(handles, labels, loc="lower left", bbox_to_anchor=(0, 1), ncols=columns,
                             borderaxespad=0.2, fontsize=9, handlelength=1.4, columnspacing=1.2)  # fmt: skip
        if legend.get_window_extent().width <= LEGEND_SHARE * figure.bbox.width:
            break
    rows = -(-len(labels) // columns)
    figure.set_figheight(figure.get_figheight() + LEGEND_ROW * max(0, rows - 2))
    # Room above all axes, so that a legend wider than its own does not squeeze them.
    legend.set_in_layout(False)
    figure.get_layout_engine().set(rect=(0, 0, 1, 1 - legend.get_window_extent().height / figure.bbox.height))


def _svg(name: str, size: tuple[float, float], draw: Callable[[Any], None]) -> str:
    import matplotlib
    from matplotlib.figure import Figure

    with matplotlib.rc_context(use_fonts(_STYLE)), warnings.catch_warnings():
        # Text stays text, which the reader's browser draws with fonts of its own.
        warnings.filterwarnings("ignore", message="Glyph .* missing")
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
