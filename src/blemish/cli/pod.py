"""`blemish pod`: how small a defect a bundle finds, by synthetic defects on good images."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from blemish.cli.console import (
    check_writable,
    console,
    messages,
    progress_bar,
    show_table,
    warn,
    write_json,
)
from blemish.cli.evaluate import read_subset
from blemish.cli.options import (
    BundleArgument,
    DataArgument,
    EngineDeviceOption,
    EngineOption,
    FormatOption,
    GoodOption,
    JsonOption,
    LanguageOption,
    RootOption,
    SplitOption,
    ThreadsOption,
    UnlabelledOption,
    split_names,
)
from blemish.errors import OptionError
from blemish.files import write_atomic

if TYPE_CHECKING:
    from blemish.arrays import Image, Picture
    from blemish.evaluation.pod_result import PodResult, PodTrial

EXAMPLES = 6  # pictures of each kind of defect on the page
WINDOW = 96  # side in px of such a picture, at least


def pod(
    bundle: BundleArgument,
    data: DataArgument,
    defects: Annotated[
        str, typer.Option(help="kinds of defects, comma-separated, of scratch, crack, pit, stain, dent")
    ] = "scratch,pit,stain",
    contrast: Annotated[
        str, typer.Option(help="contrasts, comma-separated: shares of the surface's brightness, up to 1")
    ] = "0.15,0.3,0.6",
    size: Annotated[
        str | None,
        typer.Option(metavar="LOW,HIGH", help="smallest and largest length in px", show_default="by kind of defect"),
    ] = None,
    trials: Annotated[int, typer.Option(min=2, help="defects of each kind and contrast; 60 or more are advised")] = 60,
    seed: Annotated[int, typer.Option(min=0, help="random seed of the defects")] = 0,
    out: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="HTML file to write", show_default="NAME-pod.html next to the bundle"),
    ] = None,
    split: SplitOption = None,
    root: RootOption = None,
    format_: FormatOption = "auto",
    good: GoodOption = None,
    unlabelled: UnlabelledOption = "unknown",
    engine: EngineOption = "onnxruntime",
    device: EngineDeviceOption = None,
    threads: ThreadsOption = None,
    json: JsonOption = None,
    language: LanguageOption = "en",
) -> None:
    """Estimate how small a defect BUNDLE finds: the probability of detection by size (MIL-HDBK-1823A).

    Synthetic defects of many sizes and several contrasts are drawn on the good images of DATA and inspected. The page
    has a curve for each with its confidence band, a50, a90 and a90/95, examples, and the rate of false alarms on the
    untouched images. Ctrl-C ends the trials; the page is then of those done.
    """
    from blemish.evaluation.pod_result import ASSUMPTIONS
    from blemish.evaluation.pod_sweep import pod as run
    from blemish.inspection.bundle import find_bundle
    from blemish.inspection.inspector import Inspector
    from blemish.report.html import check_installed
    from blemish.report.pod_page import render_pod
    from blemish.translation import translator

    check_installed()
    t = translator(language)
    kinds, contrasts, sizes = split_names(defects), parse_numbers(contrast, "--contrast"), None
    if size is not None:
        low, *more = parse_numbers(size, "--size")
        if len(more) != 1:
            raise OptionError(f"--size {size}: give the smallest and the largest length in px, as LOW,HIGH")
        sizes = low, more[0]
    source = find_bundle(bundle)
    path = out or source.with_name(f"{source.stem}-pod.html")
    dataset = read_subset(data, split, root, format_, bundle, good or (), unlabelled, outputs=[path, json])
    inspector = Inspector.open(bundle, engine=engine, threads=threads, device=device)
    check_writable(path)
    crops: list[tuple[PodTrial, Picture]] = []
    total = sum(sample.defective is False for sample in dataset.samples) + len(kinds) * len(contrasts) * trials
    with progress_bar() as progress:
        task = progress.add_task("inspecting", total=total)
        result = run(
            inspector,
            dataset,
            kinds=kinds,
            contrasts=contrasts,
            sizes=sizes,
            trials=trials,
            seed=seed,
            on_inspection=lambda: progress.advance(task),
            on_trial=lambda trial, image: crops.append((trial, crop_defect(image, trial.box))),
        )
    examples = {
        kind: [
            (t("{length} px, contrast {contrast}", length=f"{trial.size_px:.0f}", contrast=f"{trial.strength:g}"),
             trial.hit, picture)
            for trial, picture in choose_examples(result, kind, crops)
        ]
        for kind in kinds
    }  # fmt: skip
    page = render_pod(result, ASSUMPTIONS, examples, language)
    write_atomic(path, page)
    for line in result.data["unreadable"]:
        warn(line)
    for warning in result.warnings:
        if str(warning) not in dataset.doubts:  # which were said when the data were read
            warn(str(warning))
    if json is not None:
        write_json(result.to_dict(), json)
    if str(json) != "-":
        show(result)
        console.print(f"[bold]{path}[/bold]  {len(page.encode()) / 1e6:.1f} MB", soft_wrap=True)
    if not result.complete:
        raise KeyboardInterrupt


def parse_numbers(text: str, option: str) -> list[float]:
    """Numbers of a comma-separated list; OptionError names the option."""
    try:
        return [float(name) for name in split_names(text)]
    except ValueError:
        raise OptionError(f"{option} {text}: give numbers separated by commas") from None


def crop_defect(image: "Image", box: tuple[int, int, int, int]) -> "Picture":
    """The surroundings of a box in an image (H, W, C), as a picture."""
    from blemish.report.overlay import as_picture

    x0, y0, x1, y1 = box
    side = max(WINDOW, 2 * max(x1 - x0, y1 - y0))
    height, width = image.shape[:2]
    left = max(0, min((x0 + x1 - side) // 2, width - side))
    top = max(0, min((y0 + y1 - side) // 2, height - side))
    return as_picture(image[top : top + side, left : left + side])


def choose_examples(
    result: "PodResult", kind: str, crops: "list[tuple[PodTrial, Picture]]"
) -> "list[tuple[PodTrial, Picture]]":
    """Trials of a kind, from small to large, those near the sizes where some are found and some are missed."""
    chosen: list[tuple[PodTrial, Picture]] = []
    curves = [curve for curve in result.curves if curve.kind == kind]
    for number, curve in enumerate(curves):
        own = [crop for crop in crops if (crop[0].kind, crop[0].strength) == (kind, curve.strength)]
        count = EXAMPLES * (number + 1) // len(curves) - EXAMPLES * number // len(curves)
        middle = curve.fit.a50 or curve.fit.smallest_hit or curve.fit.largest
        for hit in (False, True):
            near = sorted((c for c in own if c[0].hit == hit), key=lambda c: abs(c[0].size_px - middle))
            chosen += near[: (count + 1) // 2 if hit else count // 2]
    return sorted(chosen, key=lambda crop: (crop[0].strength, crop[0].size_px))


def show(result: "PodResult") -> None:
    """The sizes that are found as a table, and the rate of false alarms."""
    from blemish.report.formatting import percent
    from blemish.report.pod_page import size_text

    rows = []
    for curve in result.curves:
        fit = curve.fit
        sizes = [size_text(value, result.px_per_mm) for value in (fit.a50, fit.a90, fit.a90_95)]
        notes = "; ".join(map(str, curve.notes()))
        rows.append((curve.kind, f"{curve.strength:g}", f"{fit.hits} of {fit.trials}", *sizes, notes))
    show_table(("defect", "contrast", "found", "a50", "a90", "a90/95", "notes"), rows, right=("contrast",))
    alarms = result.false_alarms
    console.print(
        f"false alarms: {percent(alarms.value)} of {alarms.n} untouched good images do not pass "
        f"({percent(alarms.low)} to {percent(alarms.high)})"
    )
    messages.print("[dim]synthetic defects: the page shows them and says what the figures assume[/dim]")
