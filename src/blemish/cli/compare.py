"""`blemish compare`: several methods on one split, and which of them to choose."""

from pathlib import Path
from typing import Annotated, Any, Literal

import typer
from rich.markup import escape

from blemish.cli.console import console, needs_extra, show_table, warn
from blemish.cli.options import (
    RAY_PANEL,
    ROI_HELP,
    DataArgument,
    DeviceOption,
    FormatOption,
    GoodOption,
    LanguageOption,
    RootOption,
    SeedOption,
    TrainingCoresOption,
    TrainingGpusOption,
    UnlabelledOption,
    choice_option,
    ray_tasks,
    roi_option,
    spec_option,
    split_names,
    tiling_option,
    trainer_options,
)
from blemish.translation import Message

MetricName = Literal["auroc", "macro-f1", "map50", "iou"]


def compare(
    data: DataArgument,
    methods: Annotated[
        str, typer.Option(help="methods, comma-separated; auto: the first ones of the advisor's ranking")
    ] = "auto",
    out: Annotated[
        Path, typer.Option(metavar="DIR", help="folder for all runs; the same command resumes an unfinished comparison")
    ] = Path("comparison"),
    budget: Annotated[
        str | None,
        typer.Option(
            metavar="TIME", help="limit of the training time, such as 30m or 2h; methods are trained while they fit"
        ),
    ] = None,
    folds: Annotated[
        int, typer.Option(help="number of cross-validation folds; the test set then stays untouched until the end")
    ] = 0,
    by: Annotated[
        MetricName | None,
        choice_option(MetricName, "metric of the ranking", show_default="the first that the annotations allow"),
    ] = None,
    set_: Annotated[
        list[str] | None,
        typer.Option("--set", help="METHOD.KEY=VALUE, or KEY=VALUE for all methods with this option; repeatable"),
    ] = None,
    seed: SeedOption = 0,
    format_: FormatOption = "auto",
    root: RootOption = None,
    good: GoodOption = None,
    unlabelled: UnlabelledOption = "unknown",
    tile: Annotated[
        int | None, typer.Option(min=16, help="side of square tiles in px", show_default="the advisor's choice")
    ] = None,
    overlap: Annotated[
        float | None, typer.Option(min=0, max=0.89, help="overlap of tiles, share of a tile", show_default="0.25")
    ] = None,
    roi: Annotated[Path | None, typer.Option(metavar="FILE", help=ROI_HELP)] = None,
    synthetic: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="defect specification, for the methods that are trained with defects"),
    ] = None,
    device: DeviceOption = "auto",
    language: LanguageOption = "en",
    ray: Annotated[
        str | None,
        typer.Option(
            metavar="ADDRESS|local",
            help="train all methods and folds at the same time on a Ray cluster, or with several processes of this "
            "machine; a rerun resumes",
            rich_help_panel=RAY_PANEL,
        ),
    ] = None,
    cores: TrainingCoresOption = None,
    gpus: TrainingGpusOption = None,
) -> None:
    """Train and evaluate methods on the same images of DATA, choose one, and write a page with the reasons."""
    with needs_extra("train"):
        from blemish.training.comparison.budget import parse_time
        from blemish.training.comparison.compare import compare as run
        from blemish.training.learn.options import parse_settings

    tasks = ray_tasks(ray, cores, gpus)
    names = split_names(methods)
    summary = run(
        data,
        out=out,
        methods=None if names == ["auto"] else names,
        options=parse_settings(set_ or []),
        budget=None if budget is None else parse_time(budget),
        folds=folds,
        by=by,
        seed=seed,
        format=format_,
        root=str(root.resolve()) if root else None,
        good=good or (),
        unlabelled=unlabelled,
        trainer=trainer_options(device),
        tiling=tiling_option(tile, overlap),
        roi=roi_option(roi),
        synthetic=spec_option(synthetic),
        language=language,
        tasks=tasks,
    )
    show(summary, out)


def show(summary: dict[str, Any], out: Path) -> None:
    """The ranking as a table, the methods left out, and the choice."""
    from blemish.report.formatting import duration

    rows = []
    for row in summary["ranking"]:
        other = row["difference"]
        rows.append((
            row["method"],
            _with_interval(f"{row['value']:.3f}", row, ".3f", "–"),
            "" if other is None else _with_interval(f"{other['value']:+.3f}", other, "+.3f", " to "),
            f"{row['latency_ms']:.3g}",
            f"{row['size_mb']:.1f}",
            "" if row["training_s"] is None else duration(row["training_s"]),
        ))  # fmt: skip
    columns = ("method", summary["metric"]["name"], "difference to the best", "ms", "MB", "training")
    show_table(columns, rows, right=("ms", "MB"))
    for note in summary.get("notes", ()):
        warn(str(Message(note["text"], note["values"])))
    for own in summary["left_out"]:
        warn(f"{own['method']} is left out: {own['reason']}")
    console.print(f"\n[dim]{escape(summary['basis']['words'])}[/dim]")
    choice = summary["choice"]
    console.print(f"[bold]choice: {choice['method']}[/bold], {escape(choice['reason'])}")
    console.print(f"{out / 'comparison.html'} shows why; {choice['bundle']} is its bundle", soft_wrap=True)


def _with_interval(text: str, values: dict[str, Any], form: str, between: str) -> str:
    """The text with the interval in brackets, where there is one."""
    if values["low"] is None:
        return text
    return f"{text} ({values['low']:{form}}{between}{values['high']:{form}})"
