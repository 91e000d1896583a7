"""`blemish plan`: the advisor's choice of method, image size and tiles for a dataset, with costs and reasons."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.markup import escape

from blemish.cli.console import check_data_outputs, console, needs_extra, progress_bar, show_table, warn, write_json
from blemish.cli.options import (
    DataArgument,
    FormatOption,
    GoodOption,
    JsonOption,
    RootOption,
    SeedOption,
    UnlabelledOption,
)
from blemish.errors import OptionError
from blemish.imaging.tiling import tile_boxes
from blemish.translation import ENGLISH, languages, translator

if TYPE_CHECKING:
    from blemish.training.advice.plan import Plan

MAX_SHOWN = 5  # methods of the ranking; the file has all
SETTINGS = {
    "unknown": "defects unknown: only good images to train on",
    "few": "few defects: a handful of each class to train on",
    "known": "defects known: labelled ones of every class to train on",
}


def plan(
    data: DataArgument,
    out: Annotated[Path, typer.Option(metavar="FILE", help="YAML file for the plan; an older one is replaced")] = Path(
        "plan.yaml"
    ),
    false_alarm: Annotated[float, typer.Option(help="share of good parts that may be rejected")] = 0.01,
    escape_rate: Annotated[float, typer.Option("--escape", help="escape rate to be proven")] = 0.01,
    seed: SeedOption = 0,
    format_: FormatOption = "auto",
    root: RootOption = None,
    good: GoodOption = None,
    unlabelled: UnlabelledOption = "unknown",
    probe: Annotated[bool, typer.Option(help="measurement of the first methods' cost on this machine")] = True,
    language: Annotated[
        str, typer.Option(metavar="|".join(languages()), help="language of the plan's explanations")
    ] = ENGLISH,
    json: JsonOption = None,
) -> None:
    """Recommend for DATA a method, image size and tiles, with time, memory, latency and the benefit of more images."""
    for name, value in (("false-alarm", false_alarm), ("escape", escape_rate)):
        if not 0 < value < 1:
            raise OptionError(f"--{name} {value:g}: give a share between 0 and 1")
    if out.suffix.lower() not in (".yaml", ".yml"):
        raise OptionError(f"--out {out}: a plan is YAML; give a name that ends in .yaml")
    translator(language)  # an unknown one is refused before anything is measured
    with needs_extra("train"):
        from blemish.training.advice.plan import TOP, advise, make_plan, probe_top, write_plan
    from blemish.dataset.read import read_dataset
    from blemish.dataset.resolve import explain_no_good

    dataset = read_dataset(data, format_, root, good or (), unlabelled)
    if line := explain_no_good(dataset):
        warn(line)
    check_data_outputs([out, json], data, dataset)
    with progress_bar() as progress:
        task = progress.add_task("reading images", total=len(dataset))
        advice = advise(dataset, lambda done: progress.advance(task, done), seed)
        task = progress.add_task("timing the first methods", total=None)
        estimates = probe_top(advice, dataset.classes, TOP) if probe else {}
    made = make_plan(
        str(Path(data).resolve()) if Path(data).exists() else data,
        advice,
        estimates,
        format=format_,
        root=None if root is None else str(root.resolve()),
        good=good,
        unlabelled=unlabelled,
        seed=seed,
        false_alarm=false_alarm,
        escape=escape_rate,
        language=language,
    )
    try:
        write_plan(made, out)
    except OSError as error:
        raise OptionError(f"cannot write {out}: {error.strerror}; choose another file with --out") from error
    if json is not None:
        write_json({"train": made.train, "about": made.about}, json)
        return
    show(made)
    console.print(
        f"\n[bold]{out}[/bold] contains the plan and the whole ranking; next: blemish train --plan {out}",
        soft_wrap=True,
    )


def show(made: "Plan") -> None:
    """Print a plan on one screen."""
    train, about = made.train, made.about
    info = about["fingerprint"]
    ranking: list[dict[str, Any]] = about["ranking"]
    console.print(_data_line(info))
    console.print(
        f"[bold]{SETTINGS[info['setting']]}[/bold]; annotations: {', '.join(info['training_annotations']) or 'none'}\n"
    )
    rows = []
    for rank, own in enumerate(ranking[:MAX_SHOWN]):
        cost = own.get("estimate")
        costs = ("", "", "")
        if cost is not None:
            costs = (_time(cost["training_s"]), f"{cost['memory_mb']:.0f} MB", _latency(cost["latency_ms"]))
        name = f"[bold]{own['method']}[/bold]" if rank == 0 else own["method"]
        rules = ", ".join(f"{rule} {points:+d}" for rule, points in own["rules"].items())
        rows.append((name, *costs, f"{own['points']}: {rules}"))
    show_table(("method", "training", "memory", "latency", "points, by rule"), rows)
    if len(ranking) > MAX_SHOWN:
        console.print(
            f" [dim]and {len(ranking) - MAX_SHOWN} more: {', '.join(o['method'] for o in ranking[MAX_SHOWN:])}[/dim]"
        )
    reasons = {rule: why for own in ranking[:MAX_SHOWN] for rule, why in zip(own["rules"], own["reasons"], strict=True)}
    for rule, why in reasons.items():
        console.print(f"· [italic]{rule}[/italic]: {escape(why)}")
    console.print(f"\n[bold]view[/bold]  {_view(train, info)}")
    for key, mark in (("settings", "·"), ("warnings", "[yellow]![/yellow]")):
        for line in about[key]:
            console.print(f"{mark} {escape(line)}")
    if about["worth_trying"]:
        console.print("\n[bold]also worth trying[/bold]")
    for line in about["worth_trying"]:
        console.print(f"· {escape(line)}")
    console.print("\n[bold]benefit of more images[/bold]")
    for line in about["more_data"]:
        console.print(f"· {escape(line)}")


def _data_line(info: dict[str, Any]) -> str:
    size = f"{info['width']} × {info['height']} px" + (f" ({info['sizes']} sizes)" if info["sizes"] > 1 else "")
    colour = {1: "grey", 3: "RGB"}.get(info["channels"], f"{info['channels']} channels")
    place = "aligned" if info["alignment"] >= 0.5 else "not aligned"
    defects = ""
    if info["defect_side"] is not None:
        defects = f"; defects about {info['defect_side']:.0f} px wide, {info['defect_share']:.1%} of the image"
    return (
        f"{info['images']} images, {size}, {colour}, {info['bits']} bit; {info['kind']}, {place} "
        f"({info['alignment']:.2f}){defects}"
    )


def _view(train: dict[str, Any], info: dict[str, Any]) -> str:
    size = train["options"].get("image_size")
    side = f"{size} px" if size is not None else "the method's own size"
    tile = train.get("tiling")
    cut = f"the whole image at {side}, no tiles"
    if tile:
        count = len(tile_boxes(info["height"], info["width"], tile["height"], tile["width"], tile["overlap"]))
        cut = f"tiles of {tile['width']} px at {side}, {count} per image"
    return f"{cut}; {train.get('fit', 'stretch')}"


def _latency(milliseconds: float) -> str:
    return f"{milliseconds:.3g} ms" if milliseconds < 999.5 else f"{milliseconds / 1000:.3g} s"


def _time(seconds: float) -> str:
    return f"{seconds:.0f} s" if seconds < 90 else f"{seconds / 60:.0f} min"
