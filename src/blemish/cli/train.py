"""`blemish train`: train on a dataset, export and check the graph, calibrate thresholds, write one bundle."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer
from rich.markup import escape

from blemish.cli.console import console, needs_extra
from blemish.cli.options import (
    ROI_HELP,
    DeviceOption,
    FormatOption,
    GoodOption,
    RootOption,
    ScaleOption,
    SeedOption,
    UnlabelledOption,
    choice_option,
    choose_workers,
    parse_scale,
    roi_option,
    spec_option,
    tiling_option,
    trainer_options,
)
from blemish.errors import OptionError

if TYPE_CHECKING:
    from blemish.inspection.manifest import Decision

TRAINING, LIGHTNING, CALIBRATION = "Training", "Lightning", "Calibration"
RefineChoice = Literal["auto", "off"]
FitName = Literal["stretch", "letterbox"]
CalibrationSource = Literal["auto", "held-out", "cross-fitted"]

# Command-line parameters of each setting of a run; a setting without one on the command line is left to the plan.
PARAMETERS = {
    "root": ("root",),
    "format": ("format_",),
    "tiling": ("tile",),
    "windows": ("window_share", "defect_share"),
    "start": ("from_",),
    "scale": ("px_per_mm", "scale_uncertainty"),
    "compile": ("compile_",),
    "trainer": ("device", "devices", "num_nodes", "strategy", "precision"),
}


def train(
    context: typer.Context,
    data: Annotated[
        str | None, typer.Argument(metavar="DATA", help="dataset: a folder, a CSV or COCO file, or elpv")
    ] = None,
    method: Annotated[
        str | None, typer.Option(help="name of the method (see blemish methods)", show_default="the advisor's choice")
    ] = None,
    out: Annotated[
        Path | None, typer.Option(metavar="DIR", help="run folder to write", show_default="runs/METHOD-N")
    ] = None,
    set_: Annotated[list[str] | None, typer.Option("--set", help="option of the method, KEY=VALUE; repeatable")] = None,
    seed: SeedOption = 0,
    plan: Annotated[
        Path | None, typer.Option(metavar="FILE", help="plan from blemish plan; other options override it")
    ] = None,
    resume: Annotated[Path | None, typer.Option(metavar="RUN", help="interrupted run to resume")] = None,
    format_: FormatOption = "auto",
    root: RootOption = None,
    good: GoodOption = None,
    unlabelled: UnlabelledOption = "unknown",
    channels: Annotated[
        int | None,
        typer.Option(
            min=1,
            help="number of image channels that the network sees",
            show_default="3, or the images' own",
            rich_help_panel=TRAINING,
        ),
    ] = None,
    fit: Annotated[
        FitName, choice_option(FitName, "fit of the image to the input size", rich_help_panel=TRAINING)
    ] = "stretch",
    tile: Annotated[
        int | None, typer.Option(min=16, help="side of square tiles in px", rich_help_panel=TRAINING)
    ] = None,
    overlap: Annotated[
        float | None,
        typer.Option(
            min=0,
            max=0.89,
            help="overlap of tiles, share of a tile",
            show_default="0.25",
            rich_help_panel=TRAINING,
        ),
    ] = None,
    window_share: Annotated[
        float,
        typer.Option(
            help="classifiers: a tile has a defect's class if the defect covers this share of the tile ...",
            rich_help_panel=TRAINING,
        ),
    ] = 0.1,
    defect_share: Annotated[
        float, typer.Option(help="... or if this share of the defect lies in the tile", rich_help_panel=TRAINING)
    ] = 0.5,
    roi: Annotated[Path | None, typer.Option(metavar="FILE", help=ROI_HELP, rich_help_panel=TRAINING)] = None,
    px_per_mm: ScaleOption = None,
    scale_uncertainty: Annotated[
        float | None,
        typer.Option(
            min=0,
            max=0.99,
            help="relative uncertainty of --px-per-mm, such as 0.005: 90 % lie within",
            show_default="not known",
            rich_help_panel=TRAINING,
        ),
    ] = None,
    from_: Annotated[
        Path | None,
        typer.Option("--from", metavar="RUN", help="run whose network training starts from", rich_help_panel=TRAINING),
    ] = None,
    probe: Annotated[
        float | None,
        typer.Option(
            help="share of the steps in which the initial network is frozen",
            show_default="0.1 with --from, else 0",
            rich_help_panel=TRAINING,
        ),
    ] = None,
    synthetic: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE", help="specification of synthetic defects on good images", rich_help_panel=TRAINING
        ),
    ] = None,
    workers: Annotated[
        int | None,
        typer.Option(
            min=0,
            help="number of processes that read images",
            show_default="0 on a CPU; for a GPU all cores but one, 8 at most",
            rich_help_panel=TRAINING,
        ),
    ] = None,
    cache_mb: Annotated[
        int,
        typer.Option(
            "--cache-mb",
            min=0,
            help="memory for images that are read and resized once, and as much for features of fixed networks",
            rich_help_panel=TRAINING,
        ),
    ] = 1024,
    compile_: Annotated[
        bool,
        typer.Option("--compile", help="torch.compile: slow to begin, faster steps on a GPU", rich_help_panel=TRAINING),
    ] = False,
    tensorboard: Annotated[bool, typer.Option(help="log for TensorBoard", rich_help_panel=TRAINING)] = False,
    false_alarm: Annotated[
        float, typer.Option(help="share of good parts that may be rejected", rich_help_panel=CALIBRATION)
    ] = 0.01,
    review: Annotated[
        float, typer.Option(help="share of good parts that may need review", rich_help_panel=CALIBRATION)
    ] = 0.05,
    escape: Annotated[
        float | None,
        typer.Option(help="share of defects that may pass; needs defects in val", rich_help_panel=CALIBRATION),
    ] = None,
    cost_escape: Annotated[
        float | None, typer.Option(help="cost of an escape, in false alarms", rich_help_panel=CALIBRATION)
    ] = None,
    class_thresholds: Annotated[
        bool, typer.Option(help="a threshold for each class, of highest F1 in val", rich_help_panel=CALIBRATION)
    ] = False,
    calibration: Annotated[
        CalibrationSource,
        typer.Option(
            metavar="NAME",
            help="scores for the thresholds: held-out, cross-fitted, or auto, by method and number of good images",
            rich_help_panel=CALIBRATION,
        ),
    ] = "auto",
    folds: Annotated[
        int, typer.Option(min=2, help="number of folds of cross-fitting", rich_help_panel=CALIBRATION)
    ] = 5,
    refine: Annotated[
        RefineChoice,
        choice_option(
            RefineChoice, "refine regions to the defect's border where that proves true", rich_help_panel=CALIBRATION
        ),
    ] = "auto",
    device: DeviceOption = "auto",
    devices: Annotated[int, typer.Option(min=1, help="number of processes or GPUs", rich_help_panel=LIGHTNING)] = 1,
    num_nodes: Annotated[int, typer.Option(min=1, help="number of machines", rich_help_panel=LIGHTNING)] = 1,
    strategy: Annotated[
        str, typer.Option(help="Lightning's strategy, such as ddp", rich_help_panel=LIGHTNING)
    ] = "auto",
    precision: Annotated[
        str, typer.Option(help="Lightning's precision, such as bf16-mixed", rich_help_panel=LIGHTNING)
    ] = "32",
) -> None:
    """Train on DATA and write a bundle: its thresholds are calibrated on validation images, its export is checked."""
    with needs_extra("train"):
        from blemish.training import train as training
        from blemish.training.learn.options import parse_settings
    given = _given_parameters(context)
    if resume is not None:
        if others := [name for name in given if name not in ("resume", "tensorboard")]:
            names = ", ".join(f"--{name.strip('_').replace('_', '-')}" for name in others)
            raise OptionError(
                f"a run resumes with its own settings; leave {names} out, or start a new one without --resume"
            )
        run = training.resume(resume, tensorboard=tensorboard)
    elif data is None and plan is None:
        raise OptionError(
            "name the dataset to train on, a plan with --plan FILE, or an interrupted run with --resume RUN"
        )
    else:
        options = parse_settings(set_ or [])
        scale = parse_scale(px_per_mm)
        if scale is None and scale_uncertainty is not None:
            raise OptionError("--scale-uncertainty is that of a scale; give --px-per-mm with it")
        settings: dict[str, Any] = {
            "seed": seed,
            "format": format_,
            "root": str(root.resolve()) if root else None,
            "good": good or None,
            "unlabelled": unlabelled,
            "channels": channels,
            "fit": fit,
            "tiling": tiling_option(tile, overlap),
            "windows": {"min_window_share": window_share, "min_defect_share": defect_share} if tile or plan else None,
            "roi": roi_option(roi),
            "synthetic": spec_option(synthetic),
            "start": None if from_ is None else str(from_.resolve()),
            "probe": probe,
            "scale": None if scale is None else {"x": scale[0], "y": scale[1], "uncertainty": scale_uncertainty},
            "calibration": calibration,
            "folds": folds,
            "false_alarm": false_alarm,
            "review": review,
            "escape": escape,
            "cost_escape": cost_escape,
            "class_thresholds": class_thresholds,
            "refine": refine,
            "workers": choose_workers(device) if workers is None else workers,
            "cache_mb": cache_mb,
            "compile": compile_,
            "trainer": trainer_options(device, devices, num_nodes, strategy, precision),
        }
        if plan is not None:
            from blemish.training.advice.plan import read_plan

            chosen = {key: value for key, value in settings.items() if {*given} & {*PARAMETERS.get(key, (key,))}}
            data, method, options, settings = merge(read_plan(plan), data, method, options, chosen)
        idle = [name for name in PARAMETERS["windows"] if name in given and not settings.get("tiling")]
        if idle:
            raise OptionError(f"--{idle[0].replace('_', '-')} says what class a tile has; give --tile with it")
        if "folds" in given and settings.get("calibration") == "held-out":
            raise OptionError("--folds is for cross-fitted thresholds; leave it or --calibration held-out out")
        assert data is not None  # of a plan, where none is given
        run = training.train(
            data,
            out=out or _new_run_folder(method or "auto"),
            method=method,
            options=options,
            tensorboard=tensorboard,
            **settings,
        )
    if training.is_first_process():
        _show(run)


def merge(
    plan: dict[str, Any], data: str | None, method: str | None, options: dict[str, Any], settings: dict[str, Any]
) -> tuple[str, str, dict[str, Any], dict[str, Any]]:
    """Data, method, options and settings of a plan, overridden by those of the command line.

    Other data are read in their own layout, and another method has options of its own.
    """
    rest = dict(plan)
    planned_data, planned_method = rest.pop("data"), rest.pop("method")
    planned_options = rest.pop("options", None) or {}
    if data is not None:
        rest = {key: value for key, value in rest.items() if key not in ("format", "root", "good", "unlabelled")}
    if method is None or method == planned_method:
        options = {**planned_options, **options}
    return data or planned_data, method or planned_method, options, {**rest, **settings}


def _given_parameters(context: typer.Context) -> list[str]:
    """Names of the parameters that are on the command line, in their order."""
    sources = {name: context.get_parameter_source(name) for name in context.params}
    return [name for name, source in sources.items() if source is not None and source.name == "COMMANDLINE"]


def _new_run_folder(stem: str) -> Path:
    number = 1
    while (folder := Path("runs") / f"{stem}-{number}").exists():
        number += 1
    return folder


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.4g}"


def _thresholds(decision: "Decision") -> str:
    return f"review from {_number(decision.review)}, reject from {_number(decision.reject)}"


def _show(run: Path) -> None:
    """Print what the run has shipped: size, agreement with the network, thresholds and warnings."""
    from blemish.inspection.bundle import open_bundle
    from blemish.training.ship.forecast import forecast_sentence

    bundle = open_bundle(run)
    manifest = bundle.manifest
    decision, calibration, certificate = manifest.decision, manifest.calibration, manifest.certificate
    console.print(
        f"[bold]{bundle.path}[/bold]  {manifest.provenance.method}, {bundle.path.stat().st_size / 1e6:.1f} MB"
    )
    if certificate is not None:
        console.print(
            f"  graph equals network within {max(certificate.score_difference, certificate.map_difference):.1e} "
            f"on {certificate.images} images, verdicts agree on {certificate.verdict_agreement:.0%}"
        )
        if certificate.detections == 0:
            console.print("  [yellow]![/yellow] no boxes were detected on these images, so none were compared")
    if calibration is not None:
        console.print(f"  {_thresholds(decision)}: {calibration.target}")
        if decision.class_thresholds:
            each = ", ".join(f"{name} from {_number(value)}" for name, value in decision.class_thresholds.items())
            console.print(f"  rejected by class: {escape(each)}")
            for what, share in (("false alarms", calibration.false_alarm), ("escapes", calibration.escape)):
                if share is not None:
                    console.print(f"  {what} on these images: {share[0]:.3f} ({share[1]:.3f}–{share[2]:.3f})")
        if calibration.escapes:
            console.print(f"  {forecast_sentence(calibration.escapes)}", soft_wrap=True)
        for warning in calibration.warnings:
            console.print(f"  [yellow]![/yellow] {warning}", soft_wrap=True)
    if manifest.refinement is not None:
        console.print(f"  {escape(manifest.refinement.summary)}", soft_wrap=True)
    for name, own in manifest.products.items():
        console.print(f"  product {escape(name)}: {_thresholds(own.decision)}")
    for step in (f"evaluate {run} DATA", f"inspect {run} IMAGES", f"report {run} DATA"):
        console.print(f"next: blemish {step}", soft_wrap=True)
