"""`blemish synth`: a data set of synthetic defects of known geometry."""

from pathlib import Path
from typing import Annotated

import typer

from blemish.cli.console import console
from blemish.cli.options import FileSeedOption, split_names


def synth(
    out: Annotated[Path, typer.Argument(metavar="OUT", help="new folder to write to", show_default=False)],
    surfaces: Annotated[
        str, typer.Option(help="surfaces, comma-separated: metal, fabric, brick, grass, gravel")
    ] = "metal",
    train: Annotated[int, typer.Option(min=1, help="number of good training images of each surface")] = 60,
    good: Annotated[int, typer.Option(min=0, help="number of good test images of each surface")] = 20,
    defects: Annotated[int, typer.Option(min=0, help="number of test images of each defect class and surface")] = 8,
    size: Annotated[int, typer.Option(min=64, max=4096, help="side of the images in px")] = 256,
    seed: FileSeedOption = 0,
) -> None:
    """Write a data set with synthetic defects (scratch, pit, crack, stain, blob) of known mask, length and width.

    OUT/ground_truth.csv contains the geometry of every defect in px, and in mm at 10 px per mm.
    """
    from blemish.synthesis.synthetic_set import PX_PER_MM, SetSize, write_synthetic

    names = tuple(split_names(surfaces))
    dataset = write_synthetic(out, names, SetSize(train, good, defects), size, seed)
    console.print(
        f"[bold]{out}[/bold]: {len(dataset)} image{'' if len(dataset) == 1 else 's'} of {', '.join(names)}; "
        f"defects: {', '.join(dataset.defect_classes) or 'none'}; "
        f"their geometry is in {out / 'ground_truth.csv'}, {PX_PER_MM:g} px per mm"
    )
