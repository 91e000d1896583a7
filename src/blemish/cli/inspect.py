"""`blemish inspect`: judge images with a bundle, and write down what is found as it is found."""

import sys
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack
from functools import partial
from glob import glob, has_magic
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

from blemish.cli.console import console, messages
from blemish.errors import OptionError

if TYPE_CHECKING:
    from blemish.inspection.manifest import Decision
    from blemish.inspection.result import Inspection

EXIT = {"pass": 0, "reject": 1, "unreadable": 2, "review": 3}
STYLES = {"pass": "green", "review": "yellow", "reject": "red"}
SHOWN = 12  # images in the table: the worst ones
Write = Callable[["Inspection"], None]


def inspect(
    bundle: Annotated[Path, typer.Argument(help="a .blemish file, or the run folder that holds one")],
    images: Annotated[
        list[str], typer.Argument(help="files, folders, patterns such as 'in/*.png'; - for a list on stdin")
    ],
    out: Annotated[Path | None, typer.Option(help="folder for regions.csv and marked images")] = None,
    overlay: Annotated[bool, typer.Option("--overlay", help="write marked images into --out")] = False,
    csv: Annotated[Path | None, typer.Option(help="write a line for each region to this file")] = None,
    json: Annotated[Path | None, typer.Option(help="write a JSON line for each image; - is the screen")] = None,
    product: Annotated[
        str | None, typer.Option(help="which product IMAGES show, for a bundle that decides for several")
    ] = None,
    template: Annotated[
        Path | None, typer.Option(help="defect-free twin of all IMAGES, for a bundle that compares with one")
    ] = None,
    workers: Annotated[int, typer.Option(min=1, help="threads that read images")] = 1,
    engine: Annotated[str, typer.Option(help="onnxruntime or openvino")] = "onnxruntime",
    threads: Annotated[int | None, typer.Option(min=1, help="of the engine", show_default="all cores")] = None,
    batch: Annotated[int, typer.Option(min=1, help="images or tiles in one run of the network")] = 8,
    px_per_mm: Annotated[str | None, typer.Option(help="scale: P, or X,Y")] = None,
    decision: Annotated[Path | None, typer.Option(help="YAML/JSON of thresholds and rules, for this time")] = None,
    tile: Annotated[
        int | None, typer.Option(min=0, help="cut images into squares of this side, in px; 0: do not")
    ] = None,
    overlap: Annotated[float | None, typer.Option(min=0, max=0.89, help="of tiles, as a share")] = None,
) -> None:
    """Inspect IMAGES with BUNDLE: what is wrong, where, and how much of it.

    Results are written as they come: an interruption keeps what was done, and an image that cannot be read is reported
    while the rest goes on.

    Exit code: 0 all images pass; 1 one at least is rejected; 3 none is rejected, one at least is up for review; 2 bad
    input, or an image that could not be read.
    """
    from blemish.inspection.inspector import Inspector
    from blemish.inspection.pipeline import Unreadable

    if overlay and out is None:
        raise OptionError("--overlay needs --out DIR, a folder for the marked images")
    if out is not None and csv is None and json is None:
        csv = out / "regions.csv"
    inspector = Inspector.open(
        bundle,
        engine=engine,
        threads=threads,
        decision=decision,
        tile=tile,
        overlap=overlap,
        px_per_mm=parse_scale(px_per_mm),
        batch_size=batch,
        product=product,
    )
    if inspector.manifest.template and template is None:
        raise OptionError("this bundle compares each image with a template; name it with --template FILE")
    names = Names()
    paths: Iterable[Path] = find_images(images, names)
    if "-" not in images:  # what comes by stdin is inspected as it comes
        paths = list(paths)
    total = len(paths) if isinstance(paths, list) else None
    if total == 0:
        raise OptionError(f"there is no image in {', '.join(images)}")
    tally = Tally()
    try:
        with ExitStack() as stack:
            write = _writer(stack, out if overlay else None, csv, json, names, inspector.manifest.decision)
            progress = stack.enter_context(_progress())
            task = progress.add_task("inspecting", total=total)
            for result in inspector.inspect(paths, template=template, on_error="report", workers=workers):
                if isinstance(result, Unreadable):
                    tally.unreadable += 1
                    messages.print(f"[red]![/red] {escape(result.message)}", soft_wrap=True, highlight=False)
                else:
                    tally.add(result)
                    write(result)
                progress.advance(task)
    finally:
        tally.show(messages if str(json) == "-" else console)
    raise typer.Exit(tally.exit_code())


class Names:
    """A name of its own for each image's marked copy: its path below the folder that was given."""

    def __init__(self) -> None:
        self._by_source: dict[str, Path] = {}
        self._taken: set[Path] = set()

    def add(self, path: Path, name: Path) -> bool:
        """False where the image was already named."""
        if str(path) in self._by_source:
            return False
        name = name.with_name(f"{name.stem}.png")
        if name in self._taken and path.parent.name:  # files of one name, given one by one
            name = name.with_name(f"{path.parent.name}-{name.name}")
        plain, number = name.with_suffix(""), 1
        while name in self._taken:
            number += 1
            name = plain.with_name(f"{plain.name}-{number}.png")
        self._taken.add(name)
        self._by_source[str(path)] = name
        return True

    def of(self, source: str) -> Path:
        return self._by_source[source]


class Tally:
    """How many images came to which verdict, and the worst of them."""

    def __init__(self) -> None:
        self.verdicts: Counter[str] = Counter()
        self.unreadable = 0
        self._worst: list[tuple[int, float, int, list[str]]] = []

    def add(self, inspection: "Inspection") -> None:
        verdict = str(inspection.verdict)
        self.verdicts[verdict] += 1
        order = (list(STYLES).index(verdict), inspection.score, -self.verdicts.total())
        self._worst.append((*order, _row(inspection)))
        if len(self._worst) >= 20 * SHOWN:
            self._worst = sorted(self._worst, reverse=True)[:SHOWN]

    def exit_code(self) -> int:
        if self.unreadable:
            return EXIT["unreadable"]
        return next((EXIT[name] for name in ("reject", "review") if self.verdicts[name]), EXIT["pass"])

    def show(self, screen: Console) -> None:
        shown = sorted(self._worst, reverse=True)[:SHOWN]
        if shown:
            table = Table("image", "verdict", "label", "score", "regions", "largest", box=None, header_style="bold")
            for _, _, _, row in shown:
                table.add_row(*row)
            screen.print(table)
        counts = ", ".join(f"[{style}]{self.verdicts[name]} {name}[/{style}]" for name, style in STYLES.items())
        total = self.verdicts.total() + self.unreadable
        more = f", worst {SHOWN} shown" if self.verdicts.total() > SHOWN else ""
        unread = f", [red]{self.unreadable} unreadable[/red]" if self.unreadable else ""
        screen.print(f"[bold]{total} images[/bold]: {counts}{unread}{more}", highlight=False)


def parse_scale(text: str | None) -> tuple[float, float] | None:
    """Pixels per millimetre along x and y from "P" or "X,Y"."""
    if text is None:
        return None
    try:
        values = [float(part) for part in text.split(",")]
    except ValueError:
        values = []
    if len(values) not in (1, 2):
        raise OptionError(f"--px-per-mm {text}: give one positive number, or two as X,Y")
    return values[0], values[-1]


def find_images(sources: Iterable[str], names: Names) -> Iterator[Path]:
    """Image files of the given files, folders (with all below), patterns and, for "-", lines on stdin; none twice."""
    from blemish.dataset.image_files import images_in

    for source in sources:
        path = Path(source)
        if source == "-":
            yield from find_images((line.strip() for line in sys.stdin if line.strip() not in ("", "-")), names)
        elif path.is_dir():
            found = images_in(path, deep=True)
            if not found:
                messages.print(f"[yellow]![/yellow] folder {escape(source)} holds no images", soft_wrap=True)
            yield from (image for image in found if names.add(image, image.relative_to(path)))
        elif not path.exists() and has_magic(source) and (matches := sorted(glob(source, recursive=True))):
            yield from find_images(matches, names)
        elif names.add(path, Path(path.name)):
            yield path  # one that is missing is reported like one that is damaged


def _writer(
    stack: ExitStack, marked: Path | None, csv: Path | None, json: Path | None, names: Names, decision: "Decision"
) -> Write:
    """What writes an inspection wherever it is asked for."""
    from blemish.report.overlay import heat_range
    from blemish.report.sinks import CsvSink, JsonSink

    writes: list[Write] = []
    if csv is not None:
        writes.append(stack.enter_context(CsvSink(csv)).append)
    if json is not None:
        writes.append(stack.enter_context(JsonSink(json)).append)
    if marked is not None:
        writes.append(partial(_write_marked, folder=marked, names=names, heat_range=heat_range(decision)))

    def write(inspection: "Inspection") -> None:
        for one in writes:
            one(inspection)

    return write


def _write_marked(inspection: "Inspection", folder: Path, names: Names, heat_range: tuple[float, float] | None) -> None:
    from blemish.imaging.read import read_image, write_image
    from blemish.report.overlay import draw_overlay

    source = str(inspection.source)
    name = names.of(source)
    write_image(folder / name, draw_overlay(read_image(source), inspection, heat_range))


def _row(inspection: "Inspection") -> list[str]:
    style = STYLES[str(inspection.verdict)]
    largest = ""
    measured = [region.measurements for region in inspection.regions if region.measurements is not None]
    if measured:
        most = max(measured, key=lambda m: m.area_px)
        largest = (
            f"{most.length_px:.0f} × {most.mean_width_px:.0f} px"
            if most.length_mm is None or most.mean_width_mm is None
            else f"{most.length_mm:.2f} × {most.mean_width_mm:.2f} mm"
        )
    return [
        escape(str(inspection.source)),
        f"[{style}]{inspection.verdict}[/{style}]",
        escape(inspection.label),
        f"{inspection.score:.4g}",
        str(len(inspection.regions)),
        largest,
    ]


def _progress() -> Progress:
    columns = TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn()
    return Progress(*columns, console=messages, transient=True)
