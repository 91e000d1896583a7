"""`blemish inspect`: inspect images with a bundle, and write each result as soon as it is there."""

import sys
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack
from functools import partial
from glob import glob, has_magic
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.markup import escape

from blemish.cli.console import check_outputs, console, messages, progress_bar, show_table, warn
from blemish.cli.inspect_ray import inspect_on_ray
from blemish.cli.options import (
    RAY_PANEL,
    BundleArgument,
    EngineDeviceOption,
    EngineOption,
    ScaleOption,
    ThreadsOption,
    parse_scale,
)
from blemish.errors import BlemishError, OptionError

if TYPE_CHECKING:
    from blemish.inspection.manifest import Decision
    from blemish.inspection.result import Inspection

EXIT = {"pass": 0, "reject": 1, "unreadable": 2, "review": 3}
STYLES = {"pass": "green", "review": "yellow", "reject": "red"}
MAX_SHOWN = 12  # images in the table: the worst ones
Write = Callable[["Inspection"], None]


def inspect(
    bundle: BundleArgument,
    images: Annotated[
        list[str],
        typer.Argument(
            metavar="IMAGES...",
            help="files, folders, patterns such as 'in/*.png'; -: a list on stdin",
            show_default=False,
        ),
    ],
    out: Annotated[
        str | None,
        typer.Option(metavar="DIR", help="folder for regions.csv and marked images; with --ray, or a URL, for results"),
    ] = None,
    overlay: Annotated[bool, typer.Option("--overlay", help="marked images in --out")] = False,
    csv: Annotated[Path | None, typer.Option(metavar="FILE", help="CSV file with a row for each region")] = None,
    json: Annotated[
        Path | None, typer.Option(metavar="FILE", help="JSON Lines file with an object for each image; -: stdout")
    ] = None,
    coco: Annotated[
        Path | None, typer.Option(metavar="FILE", help="COCO file with the regions of all images; -: stdout")
    ] = None,
    product: Annotated[
        str | None, typer.Option(help="product in IMAGES, for a bundle that decides for several products")
    ] = None,
    template: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="reference image for all IMAGES, for a bundle that compares with one"),
    ] = None,
    workers: Annotated[int, typer.Option(min=1, help="number of threads that read images")] = 1,
    engine: EngineOption = "onnxruntime",
    device: EngineDeviceOption = None,
    threads: ThreadsOption = None,
    batch: Annotated[int, typer.Option(min=1, help="number of images or tiles in one run of the network")] = 8,
    px_per_mm: ScaleOption = None,
    decision: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="YAML or JSON file with thresholds and rules for this inspection"),
    ] = None,
    tile: Annotated[
        int | None, typer.Option(min=0, help="side of square tiles in px; 0: no tiles", show_default="of the bundle")
    ] = None,
    overlap: Annotated[
        float | None, typer.Option(min=0, max=0.89, help="overlap, share of a tile", show_default="of the bundle")
    ] = None,
    ray: Annotated[
        str | None,
        typer.Option(
            metavar="ADDRESS|local",
            help="inspect on a Ray cluster, or with several processes of this machine; IMAGES may be URLs, and CSV or "
            "Parquet lists; a rerun inspects what is missing, has changed or failed",
            rich_help_panel=RAY_PANEL,
        ),
    ] = None,
    actors: Annotated[
        int | None,
        typer.Option(
            min=1, help="number of inspecting processes", show_default="all that fit", rich_help_panel=RAY_PANEL
        ),
    ] = None,
    cores: Annotated[
        int | None,
        typer.Option(min=1, help="cores of each process", show_default="1", rich_help_panel=RAY_PANEL),
    ] = None,
    gpus: Annotated[
        float | None,
        typer.Option(min=0, help="GPUs, or share of one, of each process", show_default="0", rich_help_panel=RAY_PANEL),
    ] = None,
    shard: Annotated[
        int | None,
        typer.Option(
            min=1,
            help="images whose results are written together",
            show_default="1000",
            rich_help_panel=RAY_PANEL,
        ),
    ] = None,
) -> None:
    """Inspect IMAGES with BUNDLE: what is wrong, where, and how much of it.

    Each result is written at once: an interruption keeps the finished ones, and an image that cannot be read is
    reported while the others are inspected. With --ray, results are Parquet and JSON lines files in --out.

    Exit code: 0 all images pass; 1 at least one is rejected; 3 none is rejected, at least one needs review; 2 bad
    input, or an image that could not be read.
    """
    if ray is not None:
        inspect_on_ray(
            bundle,
            images,
            out,
            address=ray,
            unusable={
                "--overlay": overlay,
                "--csv": csv is not None,
                "--json": json is not None,
                "--coco": coco is not None,
                "--threads": threads is not None,
            },
            workforce={"actors": actors, "cores": cores or 1, "gpus": gpus or 0.0, "readers": workers},
            shard_size=shard or 1000,
            template=template,
            inspector={
                "engine": engine,
                "device": device,
                "decision": decision,
                "tile": tile,
                "overlap": overlap,
                "px_per_mm": parse_scale(px_per_mm),
                "batch_size": batch,
                "product": product,
            },
        )
    for name, given in {"--actors": actors, "--cores": cores, "--gpus": gpus, "--shard": shard}.items():
        if given is not None:
            raise OptionError(f"{name} is for --ray")
    from blemish.inspection.inspector import Inspector
    from blemish.inspection.pipeline import FailedInspection

    folder = None if out is None else Path(out)
    if overlay and folder is None:
        raise OptionError("--overlay needs --out DIR, a folder for the marked images")
    if folder is not None and csv is None and json is None and coco is None:
        csv = folder / "regions.csv"
    inspector = Inspector.open(
        bundle,
        engine=engine,
        threads=threads,
        device=device,
        decision=decision,
        tile=tile,
        overlap=overlap,
        px_per_mm=parse_scale(px_per_mm),
        batch_size=batch,
        product=product,
    )
    for note in inspector.notes:
        warn(note)
    if inspector.manifest.template and template is None:
        raise OptionError("this bundle compares each image with a reference image; name it with --template FILE")
    names = OutputNames()
    paths: Iterable[Path] = find_images(images, names)
    if "-" not in images:  # images named on stdin are inspected as they come
        paths = list(paths)
    total = len(paths) if isinstance(paths, list) else None
    if total == 0:
        raise OptionError(f"there is no image in {', '.join(images)}")
    marked = folder if overlay else None
    _check_outputs(paths, (csv, json, coco), marked, names, (inspector.bundle.path, decision, template))
    # It refuses a reference image before the files of earlier results are emptied.
    results = inspector.inspect(paths, template=template, on_error="report", workers=workers)
    tally = Tally()
    try:
        with ExitStack() as stack:
            sinks = (csv, json, coco)
            write = _open_sinks(stack, sinks, marked, names, inspector.manifest.decision)
            progress = stack.enter_context(progress_bar())
            task = progress.add_task("inspecting", total=total)
            for result in results:
                message = result.message if isinstance(result, FailedInspection) else ""
                if not isinstance(result, FailedInspection):
                    try:
                        write(result)
                    except OSError:  # a full disk: nothing more can be written
                        raise
                    except Exception as error:  # such as of its marked image: the others are still written
                        kind = "" if isinstance(error, BlemishError) else f"{type(error).__name__}: "
                        message = f"{result.source} is inspected, but cannot be written: {kind}{error}"
                    else:
                        tally.add(result)
                if message:
                    tally.unreadable += 1
                    warn(message, "red")
                progress.advance(task)
    finally:
        tally.show(messages if "-" in (str(json), str(coco)) else console)
    raise typer.Exit(tally.exit_code())


class OutputNames:
    """A unique name for each image's marked copy: its path below the given folder."""

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

    def name_for(self, source: str) -> Path:
        return self._by_source[source]


class Tally:
    """Number of images by verdict, and the worst of them."""

    def __init__(self) -> None:
        self.verdicts: Counter[str] = Counter()
        self.unreadable = 0
        self._worst: list[tuple[int, float, int, list[str]]] = []

    def add(self, inspection: "Inspection") -> None:
        verdict = str(inspection.verdict)
        self.verdicts[verdict] += 1
        order = (list(STYLES).index(verdict), inspection.score, -self.verdicts.total())
        self._worst.append((*order, _row(inspection)))
        if len(self._worst) >= 20 * MAX_SHOWN:
            self._worst = sorted(self._worst, reverse=True)[:MAX_SHOWN]

    def exit_code(self) -> int:
        if self.unreadable:
            return EXIT["unreadable"]
        return next((EXIT[name] for name in ("reject", "review") if self.verdicts[name]), EXIT["pass"])

    def show(self, screen: Console) -> None:
        shown = sorted(self._worst, reverse=True)[:MAX_SHOWN]
        if shown:
            columns = ("image", "verdict", "label", "score", "regions", "largest")
            show_table(columns, [row for *_, row in shown], right=("score", "regions"), screen=screen)
        counts = ", ".join(f"[{style}]{self.verdicts[name]} {name}[/{style}]" for name, style in STYLES.items())
        total = self.verdicts.total() + self.unreadable
        more = f", worst {MAX_SHOWN} shown" if self.verdicts.total() > MAX_SHOWN else ""
        unread = f", [red]{self.unreadable} unreadable[/red]" if self.unreadable else ""
        screen.print(f"[bold]{total} images[/bold]: {counts}{unread}{more}")


def find_images(sources: Iterable[str], names: OutputNames) -> Iterator[Path]:
    """Image files of the given files, folders (with all below), patterns and, for "-", lines on stdin; none twice."""
    from blemish.dataset.image_files import list_images

    for source in sources:
        path = Path(source)
        if source == "-":
            yield from find_images((line.rstrip("\r\n") for line in sys.stdin if line.strip() not in ("", "-")), names)
        elif path.is_dir():
            found = list_images(path, deep=True)
            if not found:
                warn(f"folder {source} contains no images")
            yield from (image for image in found if names.add(image, image.relative_to(path)))
        elif not path.exists() and has_magic(source) and (matches := sorted(glob(source, recursive=True))):
            yield from find_images(matches, names)
        elif names.add(path, Path(path.name)):
            yield path  # a missing one is reported like a damaged one


def _check_outputs(
    paths: Iterable[Path],
    files: Sequence[Path | None],
    marked: Path | None,
    names: OutputNames,
    others: Sequence[Path | None],
) -> None:
    """Raise OptionError where a result would replace an image or another file that is read, or another result."""
    from blemish.dataset.image_files import list_images

    if isinstance(paths, list):
        pictures = [] if marked is None else [marked / names.name_for(str(path)) for path in paths]
        check_outputs([*files, *pictures], [*paths, *others])
        return
    check_outputs(files, others)
    if marked is not None and marked.is_dir() and list_images(marked, deep=True):
        raise OptionError(f"{marked} holds images, which the list on stdin may name; choose an empty folder for --out")


def _open_sinks(
    stack: ExitStack, files: Sequence[Path | None], marked: Path | None, names: OutputNames, decision: "Decision"
) -> Write:
    """Open the CSV, JSON and COCO files and the folder for marked images; returns the function that writes to all."""
    from blemish.report.overlay import heat_range
    from blemish.report.sinks import CocoSink, CsvSink, JsonSink, Sink

    sinks: tuple[Callable[[Path], Sink], ...] = (CsvSink, JsonSink, CocoSink)
    opened = [sink(file) for sink, file in zip(sinks, files, strict=True) if file is not None]
    writes: list[Write] = [stack.enter_context(sink).append for sink in opened]
    if marked is not None:
        writes.append(partial(_write_marked, folder=marked, names=names, heat_range=heat_range(decision)))

    def write(inspection: "Inspection") -> None:
        for one in writes:
            one(inspection)

    return write


def _write_marked(
    inspection: "Inspection", folder: Path, names: OutputNames, heat_range: tuple[float, float] | None
) -> None:
    from blemish.imaging.read import read_image, write_image
    from blemish.report.overlay import draw_overlay

    source = str(inspection.source)
    name = names.name_for(source)
    write_image(folder / name, draw_overlay(read_image(source), inspection, heat_range))


def _row(inspection: "Inspection") -> list[str]:
    from blemish.report.measurement_text import format_size

    style = STYLES[str(inspection.verdict)]
    largest = ""
    measured = [region.measurements for region in inspection.regions if region.measurements is not None]
    if measured:
        largest = format_size(max(measured, key=lambda m: m.area_px))
    return [
        escape(str(inspection.source)),
        f"[{style}]{inspection.verdict}[/{style}]",
        escape(inspection.label),
        f"{inspection.score:.4g}",
        str(len(inspection.regions)),
        largest,
    ]
