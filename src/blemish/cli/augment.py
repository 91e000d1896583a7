"""`blemish augment`: a data set of synthetic defects on good images."""

from pathlib import Path
from typing import Annotated

import typer

from blemish.cli.console import MOST_SEED, console, counted


def augment(
    data: Annotated[str, typer.Argument(help="dataset whose good training images are drawn on")],
    out: Annotated[Path, typer.Argument(help="new folder to write to")],
    spec: Annotated[Path, typer.Option(help="defect specification: YAML of steps; see docs/few-defects.md")],
    count: Annotated[int, typer.Option(min=1, help="images to write")] = 100,
    seed: Annotated[int, typer.Option(min=0, max=MOST_SEED, help="the same seed writes the same files")] = 0,
    include_data: Annotated[bool, typer.Option(help="list DATA's own images in the CSV too, to train on both")] = False,
    roi: Annotated[
        Path | None, typer.Option(help="YAML/JSON: rectangle or polygon defects lie in, or how the part is found")
    ] = None,
    format_: Annotated[str, typer.Option("--format", help="of the dataset")] = "auto",
    root: Annotated[Path | None, typer.Option(help="folder that a CSV manifest's paths are relative to")] = None,
) -> None:
    """Put synthetic defects on good images of DATA: images, exact masks and OUT/dataset.csv to train on.

    OUT/defects.jsonl tells of every defect which step and seed made it; OUT/contact-sheet.png shows the first images.
    """
    from blemish.dataset.read import read_dataset
    from blemish.inspection.roi_file import read_roi
    from blemish.synthesis.defect_spec import read_defect_spec
    from blemish.synthesis.augmented_set import write_augmented

    steps, place = read_defect_spec(spec), None if roi is None else read_roi(roi)
    dataset = read_dataset(data, format_, root)
    with counted("drawing", count) as progress:
        written = write_augmented(
            dataset, out, steps, count, seed, include=include_data, roi=place, progress=lambda: progress(1)
        )
    if written.stopped:
        made = sum(written.counts.values())
        console.print(
            f"stopped after {made} of {count} images: {written.stopped}",
            style="yellow",
            highlight=False,
            soft_wrap=True,
        )
    found = ", ".join(f"{number} {name}" for name, number in written.counts.items())
    console.print(f"[bold]{out}[/bold]: {found}; look at {written.sheet}", highlight=False)
    if include_data:
        console.print(f"next: blemish train {out / 'dataset.csv'}", highlight=False, soft_wrap=True)
        return
    console.print(
        f"{out / 'dataset.csv'} holds no good image to learn from; to train on these images beside those of {data}, "
        "write them with --include-data, or let them be drawn while learning",
        highlight=False, soft_wrap=True,
    )  # fmt: skip
    where = "" if format_ == "auto" else f" --format {format_}"
    where += "" if root is None else f" --root {root}"
    where += "" if roi is None else f" --roi {roi}"
    console.print(
        f"next: blemish train {data}{where} --method unet --synthetic {spec}", highlight=False, soft_wrap=True
    )
