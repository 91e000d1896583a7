"""`blemish views`: how good several bundles are together, on parts with several views."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from blemish.cli.console import console, progress_bar, show_table, write_json
from blemish.cli.evaluate import read_subset
from blemish.cli.options import (
    DataArgument,
    EngineOption,
    FormatOption,
    GoodOption,
    JsonOption,
    RootOption,
    SplitOption,
    ThreadsOption,
    UnlabelledOption,
)
from blemish.errors import OptionError

if TYPE_CHECKING:
    from blemish.evaluation.intervals import RateEstimate
    from blemish.evaluation.parts import EvaluatedPart


def views(
    data: DataArgument,
    view: Annotated[list[str], typer.Option(metavar="VIEW=BUNDLE", help="bundle of a view; repeatable")],
    rule: Annotated[
        list[str] | None,
        typer.Option(metavar="RULE", help="rule over the regions of all views, such as 'reject if scratch.count > 2'"),
    ] = None,
    split: SplitOption = None,
    root: RootOption = None,
    format_: FormatOption = "auto",
    good: GoodOption = None,
    unlabelled: UnlabelledOption = "unknown",
    json: JsonOption = None,
    engine: EngineOption = "onnxruntime",
    threads: ThreadsOption = None,
) -> None:
    """Evaluate bundles, one a view, on the parts of DATA: an image's `group` is its part, its `view` one of these."""
    from blemish.evaluation.parts import evaluate_parts, group_parts
    from blemish.inspection.inspector import Inspector
    from blemish.inspection.views import check_bundle_fusion_rules

    rules = rule or []
    inspectors = {name: Inspector.open(path, engine=engine, threads=threads) for name, path in map(_split_view, view)}
    if len(inspectors) != len(view):
        raise OptionError("a view is given twice; give each one bundle")
    check_bundle_fusion_rules(rules, [inspector.manifest for inspector in inspectors.values()])
    bundles = {name: own.bundle.path for name, own in inspectors.items()}
    dataset = read_subset(data, split, root, format_, bundles, good or (), unlabelled, outputs=[json])
    with progress_bar() as progress:
        task = progress.add_task("inspecting", total=len(group_parts(dataset, list(inspectors))))

        def advance(part: "EvaluatedPart") -> None:
            progress.update(task, advance=1)

        result = evaluate_parts(inspectors, dataset, rules, advance)
    if json is not None:
        write_json({**result.to_dict(), "warnings": list(dataset.doubts)}, json)
    if json is None or str(json) != "-":
        rows = [
            ["parts", f"{len(result.parts)}, {result.incomplete} of them lack a view"],
            ["escape", _rate(result.escape)],
            ["overkill", _rate(result.overkill)],
            ["review", _rate(result.review)],
            *([f"found by {name} alone", f"{number} defective parts"] for name, number in result.found_by.items()),
        ]
        show_table(["by part", "value (95 % interval)"], rows)
        console.print("A part that lacks a view is never passed.")


def _split_view(text: str) -> tuple[str, Path]:
    name, separator, path = text.partition("=")
    if not separator or not name or not path:
        raise OptionError(f"give --view NAME=BUNDLE, not '{text}'")
    return name, Path(path)


def _rate(rate: "RateEstimate | None") -> str:
    return "no such parts" if rate is None else f"{rate.value:.2%} ({rate.low:.2%} to {rate.high:.2%}, n = {rate.n})"
