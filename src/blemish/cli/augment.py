"""`blemish augment`: a data set of synthetic defects on good images."""

from pathlib import Path
from typing import Annotated

import typer

from blemish.cli.console import console, counted, warn
from blemish.cli.options import (
    ROI_HELP,
    DataArgument,
    FileSeedOption,
    FormatOption,
    GoodOption,
    RootOption,
    UnlabelledOption,
    roi_option,
)


def augment(
    data: DataArgument,
    out: Annotated[Path, typer.Argument(metavar="OUT", help="new folder to write to", show_default=False)],
    spec: Annotated[
        Path,
        typer.Option(metavar="FILE", help="defect specification, YAML (see docs/few-defects.md)", show_default=False),
    ],
    count: Annotated[int, typer.Option(min=1, help="number of images")] = 100,
    seed: FileSeedOption = 0,
    include_data: Annotated[bool, typer.Option(help="DATA's own images in the CSV too, to train on both")] = False,
    roi: Annotated[Path | None, typer.Option(metavar="FILE", help=f"{ROI_HELP}; defects lie in it")] = None,
    format_: FormatOption = "auto",
    root: RootOption = None,
    good: GoodOption = None,
    unlabelled: UnlabelledOption = "unknown",
) -> None:
    """Put synthetic defects on good training images of DATA: images, exact masks and OUT/dataset.csv to train on.

    OUT/defects.jsonl has the step, seed and parameters of every defect; OUT/contact-sheet.png shows the first images.
    """
    from blemish.dataset.read import read_dataset
    from blemish.synthesis.augmented_set import write_augmented
    from blemish.synthesis.defect_spec import read_defect_spec

    steps, region = read_defect_spec(spec), roi_option(roi)
    dataset = read_dataset(data, format_, root, good or (), unlabelled)
    with counted("synthesizing", count) as progress:
        written = write_augmented(
            dataset, out, steps, count, seed, include=include_data, roi=region, progress=lambda: progress(1)
        )
    if written.stopped:
        warn(f"stopped after {sum(written.counts.values())} of {count} images: {written.stopped}")
    counts = ", ".join(f"{number} {name}" for name, number in written.counts.items())
    console.print(f"[bold]{out}[/bold]: {counts}; look at {written.sheet}")
    if include_data:
        console.print(f"next: blemish train {out / 'dataset.csv'}", soft_wrap=True)
        return
    console.print(
        f"{out / 'dataset.csv'} contains no good images to train on; to train on these images and those of {data}, "
        "use --include-data, or let `blemish train` make synthetic defects in training",
        soft_wrap=True,
    )
    where = "" if format_ == "auto" else f" --format {format_}"
    where += "" if root is None else f" --root {root}"
    where += "".join(f" --good {name}" for name in good or ()) + (
        "" if unlabelled == "unknown" else " --unlabelled good"
    )
    where += "" if roi is None else f" --roi {roi}"
    console.print(f"next: blemish train {data}{where} --method unet --synthetic {spec}", soft_wrap=True)
