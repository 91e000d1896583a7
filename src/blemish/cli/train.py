"""`blemish train`: learn from a dataset, prove the export, set the thresholds, ship one file."""

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.markup import escape

from blemish.cli.console import MOST_SEED, console, needs_extra
from blemish.errors import OptionError

if TYPE_CHECKING:
    from blemish.imaging.roi import Roi

LEARN, LIGHTNING, JUDGE = "Learning", "Lightning", "Calibration"


# What each setting of a run is told by on the command line; what was not told there is left to the plan.
TOLD_BY = {
    "seed": ("seed",),
    "format": ("format_",),
    "root": ("root",),
    "channels": ("channels",),
    "fit": ("fit",),
    "tiling": ("tile",),
    "windows": ("window_share", "defect_share"),
    "roi": ("roi",),
    "synthetic": ("synthetic",),
    "start": ("from_",),
    "probe": ("probe",),
    "scale": ("px_per_mm",),
    "calibration": ("calibration",),
    "folds": ("folds",),
    "false_alarm": ("false_alarm",),
    "review": ("review",),
    "escape": ("escape",),
    "cost_escape": ("cost_escape",),
    "class_thresholds": ("class_thresholds",),
    "workers": ("workers",),
    "trainer": ("device", "devices", "num_nodes", "strategy", "precision"),
}


def train(
    context: typer.Context,
    data: Annotated[str | None, typer.Argument(help="dataset: a folder, a CSV manifest, or 'elpv'")] = None,
    method: Annotated[str | None, typer.Option(help="see `blemish methods`; without it the advisor chooses")] = None,
    out: Annotated[Path | None, typer.Option(help="run folder", show_default="runs/METHOD-N")] = None,
    set_: Annotated[list[str] | None, typer.Option("--set", help="option of the method, key=value; repeatable")] = None,
    seed: Annotated[int, typer.Option(min=0, max=MOST_SEED, help="of splits and of learning")] = 0,
    plan: Annotated[
        Path | None, typer.Option(help="run what `blemish plan` wrote; options given here override it")
    ] = None,
    resume: Annotated[Path | None, typer.Option(help="go on with this interrupted run")] = None,
    format_: Annotated[str, typer.Option("--format", help="of the dataset")] = "auto",
    root: Annotated[Path | None, typer.Option(help="folder that a CSV manifest's paths are relative to")] = None,
    channels: Annotated[
        int | None,
        typer.Option(min=1, help="that the network sees", show_default="3, or the images' own", rich_help_panel=LEARN),
    ] = None,
    fit: Annotated[str, typer.Option(help="stretch or letterbox to the input", rich_help_panel=LEARN)] = "stretch",
    tile: Annotated[
        int | None, typer.Option(min=16, help="cut images into squares of this side, in px", rich_help_panel=LEARN)
    ] = None,
    overlap: Annotated[float, typer.Option(min=0, max=0.89, help="share of a tile", rich_help_panel=LEARN)] = 0.25,
    window_share: Annotated[
        float,
        typer.Option(help="a tile bears a defect's class if it covers so much of the tile ...", rich_help_panel=LEARN),
    ] = 0.1,
    defect_share: Annotated[
        float, typer.Option(help="... or so much of a defect lies in it; for classifiers", rich_help_panel=LEARN)
    ] = 0.5,
    roi: Annotated[
        Path | None,
        typer.Option(help="YAML/JSON: rectangle or polygon inspected, or how the part is found", rich_help_panel=LEARN),
    ] = None,
    px_per_mm: Annotated[str | None, typer.Option(help="scale: P, or X,Y", rich_help_panel=LEARN)] = None,
    from_: Annotated[
        Path | None, typer.Option("--from", help="run whose network this one starts from", rich_help_panel=LEARN)
    ] = None,
    probe: Annotated[
        float | None,
        typer.Option(
            help="share of the steps in which the network started from stays",
            show_default="0.1 after --from, else 0",
            rich_help_panel=LEARN,
        ),
    ] = None,
    synthetic: Annotated[
        Path | None, typer.Option(help="recipe of defects to draw on good images", rich_help_panel=LEARN)
    ] = None,
    workers: Annotated[int, typer.Option(min=0, help="processes that read images", rich_help_panel=LEARN)] = 0,
    tensorboard: Annotated[bool, typer.Option(help="log for TensorBoard too", rich_help_panel=LEARN)] = False,
    false_alarm: Annotated[
        float, typer.Option(help="share of good parts that may be rejected", rich_help_panel=JUDGE)
    ] = 0.01,
    review: Annotated[float, typer.Option(help="share of good parts up for review", rich_help_panel=JUDGE)] = 0.05,
    escape: Annotated[
        float | None, typer.Option(help="share of defects that may pass; needs defects in val", rich_help_panel=JUDGE)
    ] = None,
    cost_escape: Annotated[
        float | None, typer.Option(help="cost of an escape in false alarms", rich_help_panel=JUDGE)
    ] = None,
    class_thresholds: Annotated[
        bool, typer.Option(help="a threshold for each class, of highest F1 in val", rich_help_panel=JUDGE)
    ] = False,
    calibration: Annotated[str, typer.Option(help="held-out or cross-fitted", rich_help_panel=JUDGE)] = "held-out",
    folds: Annotated[int, typer.Option(min=2, help="of cross-fitting", rich_help_panel=JUDGE)] = 5,
    device: Annotated[str, typer.Option(help="auto, cpu or cuda", rich_help_panel=LIGHTNING)] = "auto",
    devices: Annotated[int, typer.Option(min=1, help="processes or GPUs", rich_help_panel=LIGHTNING)] = 1,
    num_nodes: Annotated[int, typer.Option(min=1, help="machines", rich_help_panel=LIGHTNING)] = 1,
    strategy: Annotated[str, typer.Option(help="as in Lightning, e.g. ddp", rich_help_panel=LIGHTNING)] = "auto",
    precision: Annotated[str, typer.Option(help="as in Lightning, e.g. bf16-mixed", rich_help_panel=LIGHTNING)] = "32",
) -> None:
    """Learn from DATA and ship a bundle, with thresholds set on validation images and its export proven."""
    with needs_extra("train"):
        from blemish.training import train as training
        from blemish.training.learn.options import parse_settings
    if resume is not None:
        told_too = [name for name in context.params if name not in ("resume", "tensorboard") and _told(context)(name)]
        if told_too:
            named = ", ".join(f"--{name.strip('_').replace('_', '-')}" for name in told_too)
            raise OptionError(f"a run goes on as it was begun; leave {named} out, or start a new one without --resume")
        run = training.resume(resume, tensorboard=tensorboard)
    elif data is None and plan is None:
        raise OptionError(
            "name the dataset to learn from, a plan with --plan FILE, or an interrupted run with --resume RUN"
        )
    else:
        options = parse_settings(set_ or [])
        settings = {
            "seed": seed,
            "format": format_,
            "root": str(root.resolve()) if root else None,
            "channels": channels,
            "fit": fit,
            "tiling": tiling_of(tile, overlap),
            "windows": {"of_window": window_share, "of_defect": defect_share} if tile or plan else None,
            "roi": read_roi_of(roi),
            "synthetic": read_spec_option(synthetic),
            "start": None if from_ is None else str(from_.resolve()),
            "probe": probe,
            "scale": _scale(px_per_mm),
            "calibration": calibration,
            "folds": folds,
            "false_alarm": false_alarm,
            "review": review,
            "escape": escape,
            "cost_escape": cost_escape,
            "class_thresholds": class_thresholds,
            "workers": workers,
            "trainer": trainer_options(device, devices, num_nodes, strategy, precision),
        }
        if plan is not None:
            from blemish.training.advice.plan import read_plan

            told = {key for key, names in TOLD_BY.items() if any(map(_told(context), names))}
            data, method, options, settings = merge(
                read_plan(plan), data, method, options, {key: settings[key] for key in told}
            )
        run = training.train(
            data,
            out=out or _fresh_folder(method or "auto"),
            method=method,
            options=options,
            tensorboard=tensorboard,
            **settings,
        )
    if training.is_first_process():
        _show(run)


def merge(
    planned: dict[str, Any], data: str | None, method: str | None, options: dict[str, Any], told: dict[str, Any]
) -> tuple[str, str, dict[str, Any], dict[str, Any]]:
    """Data, method, options and settings of a plan, where the command line told nothing else.

    Other data are read in their own layout, and another method has options of its own.
    """
    kept = dict(planned)
    planned_data, planned_method = kept.pop("data"), kept.pop("method")
    planned_options = kept.pop("options", None) or {}
    if data is not None:
        kept = {key: value for key, value in kept.items() if key not in ("format", "root")}
    if method is None or method == planned_method:
        options = {**planned_options, **options}
    return data or planned_data, method or planned_method, options, {**kept, **told}


def _told(context: typer.Context) -> Callable[[str], bool]:
    """Whether a parameter stood on the command line."""

    def told(name: str) -> bool:
        source = context.get_parameter_source(name)
        return source is not None and source.name == "COMMANDLINE"

    return told


def _fresh_folder(stem: str) -> Path:
    number = 1
    while (folder := Path("runs") / f"{stem}-{number}").exists():
        number += 1
    return folder


def trainer_options(
    device: str, devices: int = 1, num_nodes: int = 1, strategy: str = "auto", precision: str = "32"
) -> dict[str, Any]:
    """What Lightning's Trainer is told of the machine; raises OptionError for a device that is not there."""
    if device not in ("auto", "cpu", "cuda"):
        raise OptionError(f"--device {device}: choose auto, cpu or cuda")
    if device == "cuda":
        import torch

        if not torch.cuda.is_available():
            raise OptionError("--device cuda: this machine has no usable GPU; leave --device out or say cpu")
    return {
        "accelerator": {"cuda": "gpu"}.get(device, device),
        "devices": devices,
        "num_nodes": num_nodes,
        "strategy": strategy,
        "precision": precision,
    }


def tiling_of(tile: int | None, overlap: float) -> dict[str, Any] | None:
    return {"height": tile, "width": tile, "overlap": overlap} if tile else None


def read_roi_of(path: Path | None) -> "Roi | None":
    if path is None:
        return None
    from blemish.inspection.roi_file import read_roi

    return read_roi(path)


def read_spec_option(path: Path | None) -> dict[str, Any] | None:
    if path is None:
        return None
    from blemish.synthesis.defect_spec import read_defect_spec

    return dict(read_defect_spec(path).model_dump(mode="json"))


def _scale(text: str | None) -> dict[str, float] | None:
    if text is None:
        return None
    try:
        values = [float(part) for part in text.split(",")]
    except ValueError:
        values = []
    if len(values) not in (1, 2) or min(values) <= 0:
        raise OptionError(f"--px-per-mm {text}: give one positive number, or two as X,Y")
    return {"x": values[0], "y": values[-1]}


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.4g}"


def _show(run: Path) -> None:
    from blemish.inspection.bundle import open_bundle

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
            console.print("  [yellow]![/yellow] nothing was detected on these images, so no box was compared")
    if calibration is not None:
        limits = f"review from {_number(decision.review)}, reject from {_number(decision.reject)}"
        console.print(f"  {limits}: {calibration.target}")
        if decision.class_thresholds:
            each = ", ".join(f"{name} from {_number(value)}" for name, value in decision.class_thresholds.items())
            console.print(f"  rejected as a class: {escape(each)}")
            for what, share in (("false alarms", calibration.false_alarm), ("escapes", calibration.escape)):
                if share is not None:
                    console.print(f"  {what} on these images: {share[0]:.3f} ({share[1]:.3f}–{share[2]:.3f})")
        for warning in calibration.warnings:
            console.print(f"  [yellow]![/yellow] {warning}", soft_wrap=True)
    for name, own in manifest.products.items():
        limits = f"review from {_number(own.decision.review)}, reject from {_number(own.decision.reject)}"
        console.print(f"  product {escape(name)}: {limits}")
    for step in (f"evaluate {run} DATA", f"inspect {run} IMAGES", f"report {run} DATA"):
        console.print(f"next: blemish {step}", highlight=False, soft_wrap=True)
