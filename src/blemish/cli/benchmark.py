"""`blemish benchmark`: methods on whole sets, with several seeds; every row kept, tables and a page made of them."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from blemish.cli.console import console, needs_extra, show_table, warn
from blemish.cli.options import (
    MAX_SEED,
    RAY_PANEL,
    DeviceOption,
    FormatOption,
    GoodOption,
    RootOption,
    TrainingCoresOption,
    TrainingGpusOption,
    UnlabelledOption,
    choice_option,
    ray_tasks,
    split_names,
    trainer_options,
)
from blemish.cli.train import CalibrationSource, RefineChoice
from blemish.errors import OptionError

if TYPE_CHECKING:
    from blemish.training.benchmark.benchmark import BenchmarkResult

PresetName = Literal["default", "paper"]


def benchmark(
    data: Annotated[
        str, typer.Argument(metavar="ROOT", help="a data set, or a folder of categories", show_default=False)
    ],
    methods: Annotated[str, typer.Option(help="methods, comma-separated")],
    seeds: Annotated[str, typer.Option(help="random seeds, comma-separated: each method is trained with each")] = "0",
    preset: Annotated[
        PresetName, choice_option(PresetName, "options of the methods: the defaults, or those of their papers")
    ] = "default",
    out: Annotated[
        Path, typer.Option(metavar="DIR", help="folder for rows, runs and pages; the same command continues there")
    ] = Path("benchmark"),
    budget: Annotated[
        str | None, typer.Option(metavar="TIME", help="no training begins after this time, such as 30m or 2h")
    ] = None,
    unified: Annotated[
        bool, typer.Option("--unified", help="one network for all categories instead of one for each")
    ] = False,
    set_: Annotated[
        list[str] | None,
        typer.Option("--set", help="METHOD.KEY=VALUE, or KEY=VALUE for all methods with this option; repeatable"),
    ] = None,
    format_: FormatOption = "auto",
    root: RootOption = None,
    good: GoodOption = None,
    unlabelled: UnlabelledOption = "unknown",
    calibration: Annotated[
        CalibrationSource,
        choice_option(CalibrationSource, "scores for the thresholds; auto: by method and number of good images"),
    ] = "auto",
    refine: Annotated[
        RefineChoice, choice_option(RefineChoice, "refine regions to the defect's border where that proves true")
    ] = "auto",
    device: DeviceOption = "auto",
    ray: Annotated[
        str | None,
        typer.Option(
            metavar="ADDRESS|local",
            help="train at the same time on a Ray cluster, or with several processes of this machine",
            rich_help_panel=RAY_PANEL,
        ),
    ] = None,
    cores: TrainingCoresOption = None,
    gpus: TrainingGpusOption = None,
) -> None:
    """Train METHODS on every category of ROOT with every seed, and evaluate them on its test images.

    DIR/rows.jsonl has a line a training, DIR/images the score of each image, DIR/table.csv and table.tex the means,
    DIR/benchmark.html a page with rankings and plots. What DIR has rows of is not measured again.
    """
    with needs_extra("train"):
        from blemish.training.benchmark.benchmark import benchmark as run
        from blemish.training.benchmark.on_ray import run_on_ray
        from blemish.training.comparison.budget import parse_time
        from blemish.training.learn.options import parse_settings

    tasks = ray_tasks(ray, cores, gpus)
    result = run(
        data,
        out=out,
        methods=split_names(methods),
        seeds=parse_seeds(seeds),
        preset=preset,
        options=parse_settings(set_ or []),
        budget=None if budget is None else parse_time(budget),
        unified=unified,
        format=format_,
        data_root=str(root.resolve()) if root else None,
        good=good or (),
        unlabelled=unlabelled,
        settings={
            **({} if calibration == "auto" else {"calibration": calibration}),
            **({} if refine == "auto" else {"refine": refine}),
        },
        trainer=trainer_options(device),
        execute=None if tasks is None else run_on_ray(tasks),
    )
    show(result, out)


def parse_seeds(text: str) -> list[int]:
    """Seeds from "0,1,2"; OptionError for what is none."""
    names = split_names(text)
    if not names or not all(name.isdecimal() and int(name) <= MAX_SEED for name in names):
        raise OptionError(f"--seeds {text}: give whole numbers from 0 to {MAX_SEED}, separated by commas")
    return [int(name) for name in names]


def show(result: "BenchmarkResult", out: Path) -> None:
    """The main metric of each method on each set, what failed and what is left."""
    summary = result.summary
    for job, reason in result.failed:
        warn(f"{job.set}: {job.method}, seed {job.seed}: {reason}")
    if result.not_begun:
        warn(f"the budget is spent; {len(result.not_begun)} trainings are left: the same command continues")
    if not summary.rows:
        raise OptionError("nothing was measured; the lines above say why")
    main = {name: summary.main_metric([row for row in summary.rows if row.set == name]) for name in summary.sets}
    cells = {(row.set, row.variant): row.metrics.get(main[row.set]) for row in summary.rows}
    rows = []
    for variant in summary.variants:
        found = [cells.get((name, variant)) for name in summary.sets]
        rows.append((variant, *("" if own is None else own.text() for own in found)))
    show_table(("method", *(f"{name}: {main[name]}" for name in summary.sets)), rows)
    console.print(f"{out / 'benchmark.html'} shows all metrics; {out / 'rows.jsonl'} holds the rows", soft_wrap=True)
