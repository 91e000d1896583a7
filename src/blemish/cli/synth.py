"""`blemish synth`: a data set of drawn defects of known geometry."""

from pathlib import Path
from typing import Annotated

import typer

from blemish.cli.console import MOST_SEED, console


def synth(
    out: Annotated[Path, typer.Argument(help="new folder to write to")],
    surfaces: Annotated[str, typer.Option(help="metal, fabric, brick, grass, gravel, or several by comma")] = "metal",
    train: Annotated[int, typer.Option(min=1, help="good images to learn from, a surface")] = 60,
    good: Annotated[int, typer.Option(min=0, help="good images to test on, a surface")] = 20,
    defects: Annotated[int, typer.Option(min=0, help="images of each defect class to test on, a surface")] = 8,
    size: Annotated[int, typer.Option(min=64, max=4096, help="side of the images in px")] = 256,
    seed: Annotated[int, typer.Option(min=0, max=MOST_SEED, help="the same seed writes the same files")] = 0,
) -> None:
    """Write a data set with drawn defects: scratch, pit, crack, stain, blob, of known mask, length and width.

    OUT/truth.csv holds the geometry of every defect in px, and in mm at 10 px a millimetre.
    """
    from blemish.synthesis.synthetic_set import PX_PER_MM, SetSize, write_synthetic

    names = tuple(name.strip() for name in surfaces.split(",") if name.strip())
    dataset = write_synthetic(out, names, SetSize(train, good, defects), size, seed)
    console.print(
        f"[bold]{out}[/bold]: {len(dataset)} images of {', '.join(names)}; "
        f"defects {', '.join(dataset.defect_classes)}; "
        f"their geometry is in {out / 'truth.csv'}, {PX_PER_MM:g} px a mm",
        highlight=False,
    )
