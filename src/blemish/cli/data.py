"""`blemish data`: properties of a dataset, errors in it, and its conversion to another layout."""

import logging
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, get_args

import typer
from rich.markup import escape
from rich.progress import TaskID

from blemish.cli.console import check_data_outputs, console, counted, needs_extra, progress_bar, show_table, write_json
from blemish.cli.options import (
    DataArgument,
    DownloadName,
    FormatOption,
    GoodOption,
    JsonOption,
    RootOption,
    SeedOption,
    UnlabelledOption,
    WritableFormat,
    choice_option,
)
from blemish.errors import DataError
from blemish.files import write_atomic

if TYPE_CHECKING:
    from blemish.dataset.audit import Audit, DuplicateGroup
    from blemish.dataset.info import DatasetInfo, Quartiles
    from blemish.dataset.sample import Dataset

data = typer.Typer(help="Show a dataset's properties, find errors in it, convert it.", no_args_is_help=True)

log = logging.getLogger(__name__)
MAX_SHOWN = 5  # findings of a kind that are printed; --json has all
SETTINGS = {
    "unknown": "unknown (no defects to train on)",
    "few": "few (few labelled defects in some class)",
    "known": "known (labelled defects to train on)",
}
# What a label rests on, after a number of images.
EVIDENCE = {
    "folder name": "by folder name",
    "file name": "by file name",
    "column": "by column",
    "class": "because all that is annotated is of a class that means good",
    "annotation": "by annotation",
    "empty annotation": "because their annotation is empty",
    "mask": "by mask",
    "empty mask": "because their mask has no pixel",
    "layout convention": "because they have no annotation, as is usual in this layout",
    "option": "because they have no annotation, by --unlabelled",
    "none": "because nothing says what they are",
}
# Findings of the audit: name, field, and whether they are serious.
FINDINGS = (
    ("files that cannot be read", "unreadable", True),
    ("masks of another size than their image", "mask_size_mismatch", True),
    ("the same file in two splits", "duplicates_across_splits", True),
    ("the same file under two labels", "duplicates_across_labels", True),
    ("groups in two splits", "groups_across_splits", True),
    ("annotations and images that were left out", "broken_annotations", True),
    ("boxes or outlines without area, or outside their image: dropped", "boxes_empty", True),
    ("boxes or outlines that reach beyond their image: clipped", "boxes_outside", False),
    ("boxes of another class than their image", "boxes_of_other_class", False),
    ("empty masks of defective images", "empty_masks", False),
    ("masks of more than half of their image: inverted?", "large_masks", False),
    ("defect pixels on images labelled good", "masks_on_good", False),
    ("annotations that were scaled or turned with their image", "adapted", False),
    ("images of a few pixels", "tiny", False),
    ("images of one value", "constant", False),
    ("the same file twice, otherwise", "duplicates", False),
)


@data.command()
def info(
    data: DataArgument,
    format: FormatOption = "auto",
    root: RootOption = None,
    good: GoodOption = None,
    unlabelled: UnlabelledOption = "unknown",
    json: JsonOption = None,
) -> None:
    """Show the classes, splits, sizes, bit depths, annotations and defect sizes of DATA."""
    from blemish.dataset.info import describe
    from blemish.dataset.read import read_dataset

    dataset = read_dataset(data, format, root, good or (), unlabelled)
    with counted("reading images", len(dataset)) as progress:
        check_data_outputs([json], data, dataset)
        result = describe(dataset, progress)
    if json is not None:
        write_json(result.as_dict(), json)
    if json is None or str(json) != "-":
        _print_info(data, result)


@data.command()
def audit(
    data: DataArgument,
    format: FormatOption = "auto",
    root: RootOption = None,
    good: GoodOption = None,
    unlabelled: UnlabelledOption = "unknown",
    json: JsonOption = None,
    suspects: Annotated[
        bool, typer.Option("--suspects", help="rank images whose label disagrees with the others, on a page")
    ] = False,
    page: Annotated[Path, typer.Option(metavar="FILE", help="the page of --suspects")] = Path("suspects.html"),
    seed: SeedOption = 0,
) -> None:
    """Find errors in DATA: unreadable files, masks of another size, empty masks, duplicates, broken annotations.

    With --suspects, images that are probably defective among the good ones, or labelled as another class than they look
    like, are ranked by comparison with all others; a page shows them. Good images alone are enough.

    Exit code: 1 if something serious is found (unreadable files, masks of another size, the same file in two splits or
    under two labels, a group in two splits, annotations or images that were left out), otherwise 0.
    """
    from blemish.dataset.audit import audit_dataset
    from blemish.dataset.read import read_dataset

    dataset = read_dataset(data, format, root, good or (), unlabelled)
    with counted("reading images", len(dataset)) as progress:
        check_data_outputs([json, page if suspects else None], data, dataset)
        result = audit_dataset(dataset, progress)
    found = {"suspects": _find_suspects(data, dataset, page, seed)} if suspects else {}
    if json is not None:
        write_json({**result.as_dict(), **found}, json)
    if json is None or str(json) != "-":
        _print_audit(data, result)
        if suspects:
            _print_suspects(found["suspects"], page)
    if result.serious:
        raise typer.Exit(1)


@data.command()
def convert(
    data: DataArgument,
    out: Annotated[
        Path, typer.Argument(metavar="OUT", help="new folder, or new .csv file, to write", show_default=False)
    ],
    to: Annotated[WritableFormat, choice_option(WritableFormat, "layout to write", show_default=False)],
    format: FormatOption = "auto",
    root: RootOption = None,
    good: GoodOption = None,
    unlabelled: UnlabelledOption = "unknown",
) -> None:
    """Write DATA in another layout; a warning names what that layout cannot store."""
    from blemish.dataset.read import read_dataset
    from blemish.dataset.write import convert as convert_dataset

    dataset = read_dataset(data, format, root, good or (), unlabelled)
    for line in convert_dataset(dataset, to, out):
        log.warning(f"{to}: {line}")
    console.print(f"{len(dataset)} images read as {dataset.format}, written as {to} to {out}")


@data.command()
def download(
    name: Annotated[DownloadName, typer.Argument(metavar="NAME", help=f"one of {', '.join(get_args(DownloadName))}")],
    out: Annotated[Path, typer.Argument(metavar="OUT", help="new folder for the data", show_default=False)],
    accept_licence: Annotated[
        bool, typer.Option("--accept-licence", help="accept the licence of the dataset, which is shown without this")
    ] = False,
) -> None:
    """Download a published dataset; run again, it goes on where it broke off.

    The files are checked: against a published checksum, or else against that of the first download, which is kept in
    download-lock.json beside the data.
    """
    from blemish.dataset.download import download_dataset
    from blemish.dataset.read import detect_format

    with progress_bar() as bar:
        tasks = dict[str, TaskID]()

        def progress(file: str, done: int, total: int | None) -> None:
            if file not in tasks:
                tasks[file] = bar.add_task(file, total=total)
            bar.update(tasks[file], completed=done, total=total)

        dataset = download_dataset(name, out, accept_licence, progress)
    places = [out, *(folder for folder in sorted(out.iterdir()) if folder.is_dir())]
    console.print(
        f"{escape(dataset.title)} is in {escape(str(out))}; licence: {escape(dataset.licence)}, {dataset.page}"
    )
    for place in places:
        try:
            layout = detect_format(place)
        except DataError:
            continue
        console.print(f"read it with: blemish data info {escape(str(place))}  (layout {layout})")
        break


def _print_info(path: str, info: "DatasetInfo") -> None:
    console.print(f"[bold]{escape(path)}[/bold]: {info.images} images, read as [bold]{info.format}[/bold]")
    facts = {
        "task setting": SETTINGS[info.setting],
        "annotations": ", ".join(info.annotations) or "none",
        "sizes (px)": _listed({str(size): size.images for size in info.sizes}),
        "bit depths": _listed({str(depth): depth.images for depth in info.depths}),
        "pixel values": "; ".join(info.pixel_values),
        "groups": str(info.groups or ""),
        "products": _listed(info.products),
    }
    show_table(("", ""), [(name, escape(text)) for name, text in facts.items() if text])

    for line in _evidence_lines(info):
        console.print(line, markup=False, soft_wrap=True)
    if info.no_good:
        console.print(info.no_good, markup=False, soft_wrap=True)
    splits = sorted({split for row in info.counts.values() for split in row}, key="train val test (none)".find)
    counts = [
        (escape(name), *(str(row.get(split, 0)) for split in splits), str(sum(row.values())))
        for name, row in info.counts.items()
    ]
    show_table(("class", *splits, "all"), counts, title="\nImages", right=(*splits, "all"))

    if info.defects:
        header = ("count", "", "min", "25 %", "median", "75 %", "max")
        rows = []
        for own in info.defects:
            sizes = _cells(own.pixels, lambda v: f"{v:,.0f}")
            rows.append((escape(own.label), own.source, str(own.pixels.count), "px", *sizes))
            rows.append(("", "", "", "%", *_cells(own.share, lambda v: f"{100 * v:.2g}")))
        title = "\nSizes of the defects, in px and in % of the image"
        show_table(("class", "from", *header), rows, title=title, right=header)
    for line in info.unreadable[:MAX_SHOWN]:
        log.warning(line)
    if len(info.unreadable) > MAX_SHOWN:
        log.warning(f"{len(info.unreadable) - MAX_SHOWN} more files cannot be read")


def _evidence_lines(info: "DatasetInfo") -> list[str]:
    """Why images are good, and how many are not known: a line each; and the files that were passed over."""
    lines = []
    for kind, row in info.evidence.items():
        if kind != "defective":
            reasons = ", ".join(f"{count} {EVIDENCE[name]}" for name, count in row.items())
            lines.append(f"why {sum(row.values())} images are {kind}: {reasons}")
    if info.passed_over:
        lines.append(f"files passed over: {_listed(info.passed_over)}")
    return lines


def _find_suspects(path: str, dataset: "Dataset", page: Path, seed: int) -> list[dict[str, Any]]:
    """All labelled images, the most suspicious first; the first tenth and at least 20 of them are on the page."""
    with needs_extra("train"):
        from blemish.training.suspects import find_suspects
    from blemish.report.html import check_installed
    from blemish.report.suspects_page import MAX_PICTURES, render_suspects

    check_installed()
    with counted("comparing images", len(dataset)) as progress:
        found = find_suspects(dataset, seed, progress)
    rows: list[dict[str, Any]] = []
    for suspect in found:
        image = suspect.sample.image
        name = image.relative_to(dataset.root) if image.is_relative_to(dataset.root) else image
        rows.append({
            "image": str(name), "label": suspect.label, "looks_like": suspect.looks_like,
            "suspicion": round(suspect.suspicion, 4),
        })  # fmt: skip
    shown = min(MAX_PICTURES, max(20, len(found) // 10))
    pairs = [(own.sample, row) for own, row in zip(found[:shown], rows, strict=False)]
    write_atomic(page, render_suspects(path, len(found), pairs))
    return rows


def _print_suspects(rows: list[dict[str, Any]], page: Path) -> None:
    console.print(f"images whose label disagrees with the others, of {len(rows)}:")
    for row in rows[:MAX_SHOWN]:
        line = f"    {row['image']}  {row['label']}, looks like {row['looks_like']}  ({row['suspicion']:.3f})"
        console.print(line, markup=False, soft_wrap=True)
    console.print(f"{page} shows more of them", markup=False, soft_wrap=True)


def _print_audit(path: str, audit: "Audit") -> None:
    near = audit.near_duplicates
    pairs = {
        "nearly the same image in two splits": [t for t in near if t.across_splits],
        "nearly the same image under two labels": [t for t in near if t.across_labels and not t.across_splits],
        "nearly the same image, otherwise": [t for t in near if not (t.across_labels or t.across_splits)],
    }
    sections = [(title, getattr(audit, name), serious) for title, name, serious in FINDINGS]
    console.print(f"[bold]{escape(path)}[/bold]: {audit.images} images")
    for title, findings, serious in [*sections, *((title, groups, False) for title, groups in pairs.items())]:
        if findings:
            console.print(f"[{'red' if serious else 'yellow'}]{title}: {len(findings)}[/]")
            for finding in findings[:MAX_SHOWN]:
                console.print(f"    {_describe_finding(finding)}", markup=False, soft_wrap=True)
            if len(findings) > MAX_SHOWN:
                console.print(f"    and {len(findings) - MAX_SHOWN} more")
    for line in audit.pixel_values:
        console.print(f"pixel values: {line}", markup=False, soft_wrap=True)
    if audit.unlabelled:
        console.print(f"[yellow]images without label, mask or boxes: {audit.unlabelled}[/]")
    if audit.passed_over:
        console.print(f"files passed over: {_listed(audit.passed_over)}", markup=False, soft_wrap=True)
    console.print("[red]serious: fix the red findings before training[/]" if audit.serious else "nothing serious")


def _describe_finding(finding: "str | DuplicateGroup") -> str:
    if isinstance(finding, str):
        return finding
    if finding.correlation == 1.0:
        return " = ".join(finding.images)
    return f"{' ~ '.join(finding.images)}  ({finding.correlation:.3f})"


def _cells(values: "Quartiles", text: Callable[[float], str]) -> list[str]:
    return [text(v) for v in (values.low, values.q1, values.median, values.q3, values.high)]


def _listed(counts: dict[str, int], limit: int = 4) -> str:
    shown = ", ".join(f"{name} ({count})" for name, count in list(counts.items())[:limit])
    return shown + (f" and {len(counts) - limit} more" if len(counts) > limit else "")
