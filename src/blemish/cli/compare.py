"""`blemish compare`: several methods on one split, and which of them to take."""

from pathlib import Path
from typing import Annotated, Any

import typer
from rich.markup import escape
from rich.table import Table

from blemish.cli.console import MOST_SEED, console, needs_extra


def compare(
    data: Annotated[str, typer.Argument(help="dataset: a folder, a CSV manifest, or 'elpv'")],
    methods: Annotated[str, typer.Option(help="names, comma-separated; auto: those the advisor ranks first")] = "auto",
    out: Annotated[Path, typer.Option(help="folder; the same command goes on with what is in it")] = Path("comparison"),
    budget: Annotated[
        str | None, typer.Option(help="time, such as 30m or 2h: methods are trained while their estimate fits")
    ] = None,
    folds: Annotated[
        int, typer.Option(help="cross-validate on training and validation images; the test set stays untouched")
    ] = 0,
    by: Annotated[
        str | None, typer.Option(help="auroc, macro-f1, map50 or iou", show_default="the first that the truth allows")
    ] = None,
    set_: Annotated[
        list[str] | None, typer.Option("--set", help="METHOD.KEY=VALUE, or KEY=VALUE for all that have it; repeatable")
    ] = None,
    seed: Annotated[int, typer.Option(min=0, max=MOST_SEED, help="of splits and of learning")] = 0,
    format_: Annotated[str, typer.Option("--format", help="of the dataset")] = "auto",
    root: Annotated[Path | None, typer.Option(help="folder that a CSV manifest's paths are relative to")] = None,
    tile: Annotated[
        int | None, typer.Option(min=16, help="side of square tiles, in px", show_default="as the advisor says")
    ] = None,
    overlap: Annotated[float, typer.Option(min=0, max=0.89, help="share of a tile")] = 0.25,
    roi: Annotated[
        Path | None, typer.Option(help="YAML/JSON: rectangle or polygon inspected, or how the part is found")
    ] = None,
    synthetic: Annotated[
        Path | None, typer.Option(help="recipe of defects drawn while learning, by the methods that learn from defects")
    ] = None,
    device: Annotated[str, typer.Option(help="auto, cpu or cuda")] = "auto",
) -> None:
    """Train and judge methods on the same images of DATA; name the one to take, and write one page that shows why."""
    with needs_extra("train"):
        from blemish.training.comparison.budget import parse_time
        from blemish.training.comparison.compare import compare as run
        from blemish.training.learn.options import parse_settings
    from blemish.cli.train import read_spec_option, read_roi_of, tiling_of, trainer_options

    named = [name.strip() for name in methods.split(",") if name.strip()]
    facts = run(
        data,
        out=out,
        methods=None if named == ["auto"] else named,
        options=parse_settings(set_ or []),
        budget=None if budget is None else parse_time(budget),
        folds=folds,
        by=by,
        seed=seed,
        format=format_,
        root=str(root.resolve()) if root else None,
        trainer=trainer_options(device),
        tiling=tiling_of(tile, overlap),
        roi=read_roi_of(roi),
        synthetic=read_spec_option(synthetic),
    )
    show(facts, out)


def show(facts: dict[str, Any], out: Path) -> None:
    """The ranking as a table, what was left out, and the choice."""
    from blemish.report.page import duration

    table = Table("method", facts["figure"]["name"], "difference to the best", "ms", "MB", "training", box=None)
    for row in facts["standings"]:
        other = row["difference"]
        table.add_row(
            row["method"],
            f"{row['value']:.3f} ({row['low']:.3f}–{row['high']:.3f})",
            "" if other is None else f"{other['value']:+.3f} ({other['low']:+.3f} to {other['high']:+.3f})",
            f"{row['latency_ms']:.3g}",
            f"{row['size_mb']:.1f}",
            "" if row["training_s"] is None else duration(row["training_s"]),
        )
    console.print(table)
    for own in facts["left_out"]:
        console.print(f"[yellow]![/yellow] {own['method']} is left out: {escape(own['reason'])}", highlight=False)
    console.print(f"\n[dim]{escape(facts['basis']['words'])}[/dim]", highlight=False)
    choice = facts["choice"]
    console.print(f"[bold]choice: {choice['method']}[/bold], {escape(choice['reason'])}", highlight=False)
    console.print(f"{out / 'comparison.html'} shows why; {choice['bundle']} ships", highlight=False, soft_wrap=True)
