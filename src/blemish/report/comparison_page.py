"""One self-contained HTML page of a comparison of methods: the choice and its reasons, ranking, differences, costs."""

from collections.abc import Iterable, Mapping
from typing import Any

from blemish.report.html import render_template
from blemish.report.plots import plot_differences, plot_pareto
from blemish.translation import ENGLISH, Translate, translator


def render_comparison(summary: dict[str, Any], language: str = ENGLISH) -> str:
    """The page of what `comparison.json` holds.

    Raises MissingExtraError where matplotlib or Jinja2 is missing, OptionError for an unknown language.
    """
    rows = summary["ranking"]
    return render_template(
        "comparison.html",
        language,
        summary=summary,
        rows=rows,
        names=_names(row["metrics"] for row in rows),
        test_names=_names(row["metrics"] for row in summary["test"]),
        options=options_by_method(rows),
        plots=_plots(summary, translator(language)) if len(rows) > 1 else {},
    )


def options_by_method(rows: list[dict[str, Any]]) -> list[tuple[str, list[Any]]]:
    """All options with their value for each method (None where it has no such option), common ones first."""
    names = list(dict.fromkeys(name for row in rows for name in row["options"]))
    names.sort(key=lambda name: -sum(name in row["options"] for row in rows))
    return [(name, [row["options"].get(name) for row in rows]) for name in names]


def _names(tables: Iterable[Mapping[str, float]]) -> list[str]:
    """Metrics that at least one method has, in their own order."""
    return list(dict.fromkeys(name for table in tables for name in table))


def _plots(summary: dict[str, Any], t: Translate) -> dict[str, str]:
    rows, chosen, name = summary["ranking"], summary["choice"]["method"], t(summary["metric"]["name"])
    quality = {row["method"]: row["value"] for row in rows}
    plots = {"differences": plot_differences([_difference(row) for row in rows], t)}
    for key, label in (("latency_ms", t("latency, ms an image")), ("size_mb", t("bundle, MB"))):
        cost = {row["method"]: row[key] for row in rows}
        front = summary["pareto_fronts"][key]
        plots[key] = plot_pareto(key.replace("_", "-"), quality, cost, front, chosen, (label, name))
    return plots


def _difference(row: dict[str, Any]) -> tuple[str, float, float, float, bool]:
    """A point, for the best and where there is no interval."""
    own = row["difference"] or {"value": 0.0, "low": 0.0, "high": 0.0}
    low, high = (own["value"] if own[end] is None else own[end] for end in ("low", "high"))
    return row["method"], own["value"], low, high, row["significantly_worse"]
