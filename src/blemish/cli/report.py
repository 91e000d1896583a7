"""`blemish report`: one HTML page with the metrics of a bundle and the images on which it is wrong."""

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from blemish.cli.console import check_writable, console, progress_bar
from blemish.cli.evaluate import read_subset, show_unreadable
from blemish.cli.options import (
    BundleArgument,
    DataArgument,
    EngineDeviceOption,
    EngineOption,
    FormatOption,
    GoodOption,
    LanguageOption,
    RootOption,
    SpeedOption,
    SplitOption,
    ThreadsOption,
    UnlabelledOption,
)
from blemish.files import write_atomic

if TYPE_CHECKING:
    from blemish.dataset.sample import Sample
    from blemish.evaluation.evaluate import EvaluatedImage
    from blemish.inspection.result import Inspection


def report(
    bundle: BundleArgument,
    data: DataArgument,
    out: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="HTML file to write", show_default="NAME-report.html next to the bundle"),
    ] = None,
    split: SplitOption = None,
    root: RootOption = None,
    format_: FormatOption = "auto",
    good: GoodOption = None,
    unlabelled: UnlabelledOption = "unknown",
    engine: EngineOption = "onnxruntime",
    device: EngineDeviceOption = None,
    threads: ThreadsOption = None,
    speed: SpeedOption = True,
    language: LanguageOption = "en",
) -> None:
    """Evaluate BUNDLE on DATA and write one self-contained page: verdicts, curves, misses, false alarms, provenance."""
    from blemish.evaluation.curves import curves_by_class
    from blemish.evaluation.evaluate import evaluate
    from blemish.inspection.bundle import find_bundle
    from blemish.inspection.inspector import Inspector
    from blemish.report.evaluation_page import render_evaluation
    from blemish.report.gallery import make_card, select_errors, select_images
    from blemish.report.html import check_installed
    from blemish.translation import translator

    check_installed()
    translator(language)  # an unknown language is refused before any work
    source = find_bundle(bundle)
    path = out or source.with_name(f"{source.stem}-report.html")
    dataset = read_subset(data, split, root, format_, bundle, good or (), unlabelled, outputs=[path])
    inspector = Inspector.open(bundle, engine=engine, threads=threads, device=device)
    check_writable(path)
    inspections: list[tuple[Sample, Inspection]] = []
    images: list[EvaluatedImage] = []
    with progress_bar() as progress:
        task = progress.add_task("measuring speed" if speed else "inspecting", total=len(dataset))

        def keep_inspection(sample: "Sample", inspection: "Inspection") -> None:
            light = replace(inspection, heat_map=None, valid=None, regions=[], candidates=None)  # else memory fills up
            inspections.append((sample, light))
            progress.update(task, description="inspecting", advance=1)

        def keep_image(image: "EvaluatedImage") -> None:
            images.append(replace(image, pixels=None))

        metrics = evaluate(
            inspector, dataset, speed=speed, on_inspection=keep_inspection, on_evaluated=keep_image
        ).to_dict()
        groups = [*select_images(inspections), *select_errors(images)]
        task = progress.add_task("rendering", total=sum(len(group.samples) for group in groups))
        for group in groups:
            for sample in group.samples:
                inspection = inspector.inspect(sample)
                group.cards.append(make_card(sample, inspection, inspector.manifest.decision, language))
                progress.advance(task)
    curves = curves_by_class(inspections, images)
    page = render_evaluation(metrics, inspector.manifest, inspections, groups, images, curves, language)
    write_atomic(path, page)
    show_unreadable(metrics)
    console.print(f"[bold]{path}[/bold]  {len(page.encode()) / 1e6:.1f} MB", soft_wrap=True)
