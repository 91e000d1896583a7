"""One self-contained HTML page of a comparison of methods: the choice and its reason, ranks, differences, costs."""

from typing import Any

from blemish.report.page import duration, fill_template
from blemish.report.plots import differences, pareto


def render_comparison(facts: dict[str, Any]) -> str:
    """The page of what `comparison.json` holds. Raises MissingExtraError where matplotlib or Jinja2 is missing."""
    rows = facts["standings"]
    return fill_template(
        "comparison.html",
        facts=facts,
        rows=rows,
        names=_names(row["figures"] for row in rows),
        test_names=_names(row["figures"] for row in facts["test"]),
        options=different_options(rows),
        plots=_plots(facts) if len(rows) > 1 else {},
        duration=duration,
    )


def different_options(rows: list[dict[str, Any]]) -> list[tuple[str, list[Any]]]:
    """All options with their value for each method (None where it has no such one), common ones first."""
    names = list(dict.fromkeys(name for row in rows for name in row["options"]))
    names.sort(key=lambda name: -sum(name in row["options"] for row in rows))
    return [(name, [row["options"].get(name) for row in rows]) for name in names]


def _names(tables: Any) -> list[str]:
    """Figures that at least one method has, in their own order."""
    return list(dict.fromkeys(name for figures in tables for name in figures))


def _plots(facts: dict[str, Any]) -> dict[str, str]:
    rows, chosen, name = facts["standings"], facts["choice"]["method"], facts["figure"]["name"]
    quality = {row["method"]: row["value"] for row in rows}
    found = {"differences": differences([_difference(row) for row in rows])}
    for key, label in (("latency_ms", "latency, ms an image"), ("size_mb", "bundle, MB")):
        cost = {row["method"]: row[key] for row in rows}
        found[key] = pareto(key.replace("_", "-"), quality, cost, facts["fronts"][key], chosen, (label, name))
    return found


def _difference(row: dict[str, Any]) -> tuple[str, float, float, float]:
    own = row["difference"]
    return (row["method"], 0.0, 0.0, 0.0) if own is None else (row["method"], own["value"], own["low"], own["high"])
