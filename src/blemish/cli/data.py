"""`blemish data`: look into a dataset, find what is wrong with it, write it in another layout."""

import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from blemish.cli.console import counted, write_json

if TYPE_CHECKING:
    from blemish.dataset.audit import Audit, Twins
    from blemish.dataset.info import DatasetInfo, Spread

data = typer.Typer(help="Look into a dataset, find what is wrong with it, convert it.", no_args_is_help=True)

_SHOWN = 5  # findings of a kind that are printed; --json has all

Data = Annotated[str, typer.Argument(metavar="DATA", help="Folder, .csv manifest, or elpv.", show_default=False)]
FormatOption = Annotated[str, typer.Option("--format", help="Layout of the data; auto finds out.")]
Root = Annotated[
    Path | None, typer.Option(help="Where the relative paths of a CSV or COCO file start.", show_default="its folder")
]
Json = Annotated[
    Path | None, typer.Option("--json", help="Write everything as JSON to this file; - is the screen.", metavar="FILE")
]


@data.command()
def info(path: Data, format: FormatOption = "auto", root: Root = None, json: Json = None) -> None:
    """What is in DATA: classes, splits, sizes, depths, truth and the sizes of the defects."""
    from blemish.dataset.info import describe
    from blemish.dataset.read import read_dataset

    dataset = read_dataset(path, format, root)
    with counted("looking at images", len(dataset)) as progress:
        found = describe(dataset, progress)
    if json is not None:
        write_json(found.as_dict(), json)
    if json is None or str(json) != "-":
        _print_info(path, found)


@data.command()
def audit(path: Data, format: FormatOption = "auto", root: Root = None, json: Json = None) -> None:
    """Find what is wrong with DATA: unreadable files, masks of another size, empty masks, images that occur twice,
    annotations that are broken.

    Exit code 1 when something serious is found (unreadable files, masks of another size, the same file in two splits
    or under two labels, a group in two splits, annotations or images that had to be left out), 0 otherwise.
    """
    from blemish.dataset.audit import audit_dataset
    from blemish.dataset.read import read_dataset

    dataset = read_dataset(path, format, root)
    with counted("reading images", len(dataset)) as progress:
        found = audit_dataset(dataset, progress)
    if json is not None:
        write_json(found.as_dict(), json)
    if json is None or str(json) != "-":
        _print_audit(path, found)
    if found.serious:
        raise typer.Exit(1)


@data.command()
def convert(
    path: Data,
    out: Annotated[Path, typer.Argument(help="Folder (or .csv file) to write; must be new.", show_default=False)],
    to: Annotated[str, typer.Option(help="Layout to write, such as csv, mvtec, masks, coco, yolo or voc.")],
    format: FormatOption = "auto",
    root: Root = None,
) -> None:
    """Write DATA in another layout; what that layout cannot hold is named."""
    from rich.console import Console

    from blemish.dataset.read import read_dataset
    from blemish.dataset.write import convert as convert_dataset

    dataset = read_dataset(path, format, root)
    lost = convert_dataset(dataset, to, out)
    for line in lost:
        print(f"warning: {to}: {line}", file=sys.stderr)
    Console().print(f"{len(dataset)} images read as {dataset.format}, written as {to} to {out}", highlight=False)


def _print_info(path: str, found: "DatasetInfo") -> None:
    from rich.console import Console
    from rich.table import Table

    console = Console()
    setting = {
        "unknown": "unknown (no defects to learn from)",
        "few": "few (a handful of labelled defects in some class)",
        "known": "known (labelled defects to learn from)",
    }[found.setting]
    console.print(f"[bold]{path}[/bold]: {found.images} images, read as [bold]{found.format}[/bold]", highlight=False)
    facts = Table(box=None, show_header=False, padding=(0, 2))
    facts.add_row("task setting", setting)
    facts.add_row("truth", ", ".join(found.truth) or "none")
    facts.add_row("sizes (px)", _listed(found.sizes))
    facts.add_row("depths", _listed(found.depths))
    if found.groups:
        facts.add_row("groups", str(found.groups))
    if found.products:
        facts.add_row("products", _listed(found.products))
    console.print(facts)

    splits = sorted({split for row in found.counts.values() for split in row}, key="train val test (none)".find)
    counts = Table("class", *splits, "all", title="Images", title_justify="left")
    for name, row in found.counts.items():
        counts.add_row(name, *(str(row.get(split, 0)) for split in splits), str(sum(row.values())))
    for column in counts.columns[1:]:
        column.justify = "right"
    console.print(counts)

    if found.defects:
        header = ("min", "25 %", "median", "75 %", "max")
        title = "Sizes of the defects, in px and in % of the image"
        sizes = Table("class", "from", "count", "", *header, title=title, title_justify="left")
        sizes.columns[0].no_wrap = True
        for column in sizes.columns[2:]:
            column.justify = "right"
        for d in found.defects:
            sizes.add_row(d.label, d.source, str(d.pixels.count), "px", *_cells(d.pixels, lambda v: f"{v:,.0f}"))
            sizes.add_row("", "", "", "%", *_cells(d.share, lambda v: f"{100 * v:.2g}"))
        console.print(sizes)
    for line in found.unreadable[:_SHOWN]:
        print(f"warning: {line}", file=sys.stderr)
    if len(found.unreadable) > _SHOWN:
        print(f"warning: {len(found.unreadable) - _SHOWN} more files cannot be read", file=sys.stderr)


def _print_audit(path: str, found: "Audit") -> None:
    from rich.console import Console

    console = Console(highlight=False)
    console.print(f"[bold]{path}[/bold]: {found.images} images")

    def section(title: str, lines: list[str], serious: bool) -> None:
        if lines:
            console.print(f"[{'red' if serious else 'yellow'}]{title}: {len(lines)}[/]")
            for line in lines[:_SHOWN]:
                console.print(f"    {line}", markup=False, soft_wrap=True)
            if len(lines) > _SHOWN:
                console.print(f"    and {len(lines) - _SHOWN} more")

    section("files that cannot be read", found.unreadable, True)
    section("masks of another size than their image", found.mask_size_mismatch, True)
    section("the same file in two splits", _lines(found.duplicates_across_splits), True)
    section("the same file under two labels", _lines(found.duplicates_across_labels), True)
    section("groups in two splits", found.groups_across_splits, True)
    section("annotations and images that had to be left out", found.broken_annotations, True)
    section("boxes or outlines of no area, or outside their image: dropped", found.boxes_empty, True)
    section("boxes or outlines that reach beyond their image: cut", found.boxes_outside, False)
    section("boxes of another class than their image", found.boxes_of_other_class, False)
    section("empty masks of defective images", found.empty_masks, False)
    section("defect pixels on images labelled good", found.masks_on_good, False)
    section("images of a few pixels", found.tiny, False)
    section("the same file twice, otherwise", _lines(found.duplicates), False)
    near = found.near_duplicates
    section("nearly the same image in two splits", _lines([t for t in near if t.across_splits]), False)
    near = [t for t in near if not t.across_splits]
    section("nearly the same image under two labels", _lines([t for t in near if t.across_labels]), False)
    section("nearly the same image, otherwise", _lines([t for t in near if not t.across_labels]), False)
    if found.unlabelled:
        console.print(f"[yellow]images without label, mask or boxes: {found.unlabelled}[/]")
    console.print("[red]serious: mend the red findings before training[/]" if found.serious else "nothing serious")


def _lines(twins: list["Twins"]) -> list[str]:
    return [
        " = ".join(t.images) if t.correlation == 1.0 else f"{' ~ '.join(t.images)}  ({t.correlation:.3f})"
        for t in twins
    ]


def _cells(spread: "Spread", text: Callable[[float], str]) -> list[str]:
    return [text(v) for v in (spread.low, spread.q1, spread.median, spread.q3, spread.high)]


def _listed(counts: dict[str, int], most: int = 4) -> str:
    shown = ", ".join(f"{name} ({count})" for name, count in list(counts.items())[:most])
    return shown + (f" and {len(counts) - most} more" if len(counts) > most else "")
