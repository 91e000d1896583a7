"""`blemish report`: one HTML page that shows how good a bundle is, and on which images it is wrong."""

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.progress import Progress

from blemish.cli.console import console, messages
from blemish.cli.evaluate import read_part, show_unreadable
from blemish.errors import OptionError

if TYPE_CHECKING:
    from blemish.dataset.sample import Sample
    from blemish.evaluation.evaluate import EvaluatedImage as Judged
    from blemish.inspection.result import Inspection


def report(
    bundle: Annotated[Path, typer.Argument(help="a .blemish file or the run folder that holds one")],
    data: Annotated[str, typer.Argument(help="dataset: a folder, a CSV manifest, or 'elpv'")],
    out: Annotated[
        Path | None, typer.Option(help="the page", show_default="NAME-report.html beside the bundle")
    ] = None,
    split: Annotated[
        str | None, typer.Option(help="which images", show_default="test; all where neither data nor run has splits")
    ] = None,
    root: Annotated[Path | None, typer.Option(help="folder that a CSV manifest's paths are relative to")] = None,
    format_: Annotated[str, typer.Option("--format", help="of the dataset")] = "auto",
    engine: Annotated[str, typer.Option(help="onnxruntime or openvino")] = "onnxruntime",
    threads: Annotated[int | None, typer.Option(min=1, help="of the engine")] = None,
    speed: Annotated[bool, typer.Option(help="measure speed too")] = True,
) -> None:
    """Judge BUNDLE on DATA and write one self-contained page: verdicts, curves, misses, false alarms, provenance."""
    from blemish.evaluation.curves import curves_by_class
    from blemish.evaluation.evaluate import evaluate
    from blemish.inspection.inspector import Inspector
    from blemish.report.gallery import choose, make_card, telling
    from blemish.report.page import check_installed, render_page

    check_installed()
    dataset = read_part(data, split, root, format_, bundle)
    inspector = Inspector.open(bundle, engine=engine, threads=threads)
    path = out or inspector.bundle.path.with_name(f"{inspector.bundle.path.stem}-report.html")
    _check_writable(path)
    seen: list[tuple[Sample, Inspection]] = []
    judged: list[Judged] = []
    with Progress(console=messages, transient=True) as progress:
        task = progress.add_task("measuring speed" if speed else "inspecting", total=len(dataset))

        def watch(sample: "Sample", found: "Inspection") -> None:
            light = replace(found, heat_map=None, valid=None, regions=[], candidates=None)  # else memory fills up
            seen.append((sample, light))
            progress.update(task, description="inspecting", advance=1)

        def keep(own: "Judged") -> None:
            judged.append(replace(own, pixels=None))

        figures = evaluate(inspector, dataset, speed=speed, on_inspection=watch, on_evaluated=keep).to_dict()
        groups = [*choose(seen), *telling(judged)]
        task = progress.add_task("drawing", total=sum(len(group.samples) for group in groups))
        for group in groups:
            for sample in group.samples:
                group.cards.append(make_card(sample, inspector.inspect(sample), inspector.manifest.decision))
                progress.advance(task)
    page = render_page(figures, inspector.manifest, seen, groups, judged, curves_by_class(seen, judged))
    path.write_text(page, encoding="utf-8")
    show_unreadable(figures)
    console.print(f"[bold]{path}[/bold]  {len(page.encode()) / 1e6:.1f} MB", highlight=False, soft_wrap=True)


def _check_writable(path: Path) -> None:
    """Say so before the work is done, not after."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.open("a", encoding="utf-8").close()
    except OSError as error:
        raise OptionError(f"cannot write {path}: {error.strerror}; choose another file with --out") from error
