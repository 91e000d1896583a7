"""`blemish plan`: look at a dataset, and say which method to take, how to look, what it costs, and why."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.markup import escape
from rich.progress import Progress
from rich.table import Table

from blemish.cli.console import MOST_SEED, console, messages, needs_extra
from blemish.errors import OptionError
from blemish.imaging.tiling import tile_boxes

if TYPE_CHECKING:
    from blemish.training.advice.plan import Plan

SHOWN = 5  # methods of the ranking; the file has all
SETTINGS = {
    "unknown": "defects unknown: good images only to learn from",
    "few": "few defects: a handful of a class to learn from",
    "known": "defects known: labelled ones of every class to learn from",
}


def plan(
    data: Annotated[str, typer.Argument(help="dataset: a folder, a CSV manifest, or 'elpv'")],
    out: Annotated[Path, typer.Option(help="the plan, YAML; an older one is replaced")] = Path("plan.yaml"),
    false_alarm: Annotated[float, typer.Option(help="share of good parts that may be rejected")] = 0.01,
    escape_rate: Annotated[float, typer.Option("--escape", help="escape rate that is to be proven")] = 0.01,
    seed: Annotated[int, typer.Option(min=0, max=MOST_SEED, help="of splits and of learning")] = 0,
    format_: Annotated[str, typer.Option("--format", help="of the dataset")] = "auto",
    root: Annotated[Path | None, typer.Option(help="folder that a CSV manifest's paths are relative to")] = None,
    probe: Annotated[bool, typer.Option(help="time the first methods on this machine")] = True,
) -> None:
    """Advise on DATA: method, image size, tiles, time, memory, latency, and what more images would buy."""
    for name, value in (("false-alarm", false_alarm), ("escape", escape_rate)):
        if not 0 < value < 1:
            raise OptionError(f"--{name} {value:g}: give a share between 0 and 1")
    if out.suffix.lower() not in (".yaml", ".yml"):
        raise OptionError(f"--out {out}: a plan is YAML; give a name that ends in .yaml")
    with needs_extra("train"):
        from blemish.training.advice.plan import TOP, advise, make_plan, probe_first, write_plan
    from blemish.dataset.read import read_dataset

    dataset = read_dataset(data, format_, root)
    with Progress(console=messages, transient=True) as progress:
        task = progress.add_task("looking at images", total=len(dataset))
        advice = advise(dataset, lambda done: progress.advance(task, done), seed)
        task = progress.add_task("timing the first methods", total=None)
        estimates = probe_first(advice, dataset.classes, TOP) if probe else {}
    made = make_plan(
        str(Path(data).resolve()) if Path(data).exists() else data,
        advice,
        estimates,
        format=format_,
        root=None if root is None else str(root.resolve()),
        seed=seed,
        false_alarm=false_alarm,
        escape=escape_rate,
    )
    try:
        write_plan(made, out)
    except OSError as error:
        raise OptionError(f"cannot write {out}: {error.strerror}; choose another file with --out") from error
    show(made)
    console.print(
        f"\n[bold]{out}[/bold] holds all of it, with the whole ranking; next: blemish train --plan {out}",
        highlight=False, soft_wrap=True,
    )  # fmt: skip


def show(made: "Plan") -> None:
    """A plan on one screen."""
    train, about = made.train, made.about
    found = about["fingerprint"]
    ranking: list[dict[str, Any]] = about["ranking"]
    console.print(_data_line(found), highlight=False)
    console.print(f"[bold]{SETTINGS[found['setting']]}[/bold]; truth: {', '.join(found['training_truth']) or 'none'}\n")
    table = Table("method", "training", "memory", "latency", "points, by rule", box=None, header_style="bold")
    for rank, own in enumerate(ranking[:SHOWN]):
        cost = own.get("estimate")
        costs = ("", "", "")
        if cost is not None:
            costs = (_time(cost["training_s"]), f"{cost['memory_mb']:.0f} MB", _latency(cost["latency_ms"]))
        name = f"[bold]{own['method']}[/bold]" if rank == 0 else own["method"]
        rules = ", ".join(f"{rule} {points:+d}" for rule, points in own["rules"].items())
        table.add_row(name, *costs, f"{own['points']}: {rules}")
    console.print(table)
    if len(ranking) > SHOWN:
        console.print(f" [dim]and {len(ranking) - SHOWN} more: {', '.join(o['method'] for o in ranking[SHOWN:])}[/dim]")
    reasons = {rule: why for own in ranking[:SHOWN] for rule, why in zip(own["rules"], own["reasons"], strict=True)}
    for rule, why in reasons.items():
        console.print(f"· [italic]{rule}[/italic]: {escape(why)}", highlight=False)
    console.print(f"\n[bold]how to look[/bold]  {_view(train, found)}", highlight=False)
    for key, mark in (("settings", "·"), ("warnings", "[yellow]![/yellow]")):
        for line in about[key]:
            console.print(f"{mark} {escape(line)}", highlight=False)
    if about["worth_trying"]:
        console.print("\n[bold]worth a try[/bold]")
    for line in about["worth_trying"]:
        console.print(f"· {escape(line)}", highlight=False)
    console.print("\n[bold]what more images would buy[/bold]")
    for line in about["more_data"]:
        console.print(f"· {escape(line)}", highlight=False)


def _data_line(found: dict[str, Any]) -> str:
    size = f"{found['width']} × {found['height']} px" + (f" ({found['sizes']} sizes)" if found["sizes"] > 1 else "")
    colour = {1: "grey", 3: "RGB"}.get(found["channels"], f"{found['channels']} channels")
    place = "aligned" if found["alignment"] >= 0.5 else "not aligned"
    defects = ""
    if found["defect_side"] is not None:
        defects = f"; defects about {found['defect_side']:.0f} px wide, {found['defect_share']:.1%} of the image"
    return (
        f"{found['images']} images, {size}, {colour}, {found['bits']} bit; {found['kind']}, {place} "
        f"({found['alignment']:.2f}){defects}"
    )


def _view(train: dict[str, Any], found: dict[str, Any]) -> str:
    size = train["options"].get("image_size")
    side = f"{size} px" if size is not None else "the method's own size"
    tile = train.get("tiling")
    cut = f"the whole image seen at {side}, no tiles"
    if tile:
        count = len(tile_boxes(found["height"], found["width"], tile["height"], tile["width"], tile["overlap"]))
        cut = f"tiles of {tile['width']} px seen at {side}, {count} to an image"
    return f"{cut}; {train.get('fit', 'stretch')}"


def _latency(milliseconds: float) -> str:
    return f"{milliseconds:.3g} ms" if milliseconds < 999.5 else f"{milliseconds / 1000:.3g} s"


def _time(seconds: float) -> str:
    return f"{seconds:.0f} s" if seconds < 90 else f"{seconds / 60:.0f} min"
