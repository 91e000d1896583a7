"""One self-contained HTML page of a benchmark: methods on every set, rankings with intervals, accuracy against cost."""

from typing import Any

from blemish.report.html import render_template
from blemish.report.plots import plot_pareto, plot_ranking
from blemish.translation import ENGLISH, Translate, translator

COSTS = {"latency_ms": "latency, ms an image", "size_mb": "bundle, MB"}


def render_benchmark(content: dict[str, Any], language: str = ENGLISH) -> str:
    """The page of `training.benchmark.summary.page_content`.

    Raises MissingExtraError where matplotlib or Jinja2 is missing, OptionError for an unknown language.
    """
    t = translator(language)
    sets = [{**own, "plots": _plots(number, own, t)} for number, own in enumerate(content["sets"])]
    return render_template("benchmark.html", language, **{**content, "sets": sets})


def _plots(number: int, own: dict[str, Any], t: Translate) -> dict[str, str]:
    plots = {}
    if own["ranking"]:
        rows = [
            (
                row.method,
                row.value,
                row.value if row.low is None else row.low,
                row.value if row.high is None else row.high,
                row.significantly_worse,
            )
            for row in own["ranking"]
        ]
        plots["ranking"] = plot_ranking(f"ranking-{number}", rows, t(own["metric"]), t)
    for key, label in COSTS.items():
        front = own["fronts"][key]
        if len(front["cost"]) > 1:
            plots[key] = plot_pareto(
                f"{key.replace('_', '-')}-{number}", front["quality"], front["cost"], front["front"], "",
                (t(label), t(own["metric"])),
            )  # fmt: skip
    return plots
