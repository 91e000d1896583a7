"""`blemish scale`: pixels per millimetre from an image of a calibration target."""

from pathlib import Path
from typing import Annotated, Literal

import typer

from blemish.cli.console import console
from blemish.cli.options import choice_option
from blemish.errors import OptionError

PatternName = Literal["chessboard", "circles"]


def scale(
    image: Annotated[
        Path,
        typer.Argument(
            metavar="IMAGE", help="image of the target, square to the camera and to the image", show_default=False
        ),
    ],
    columns: Annotated[
        int, typer.Option(min=3, help="number of inner corners, or circles, along x", show_default=False)
    ],
    rows: Annotated[int, typer.Option(min=3, help="number of inner corners, or circles, along y", show_default=False)],
    pitch_mm: Annotated[
        float, typer.Option(help="distance from one corner or circle to the next, in mm", show_default=False)
    ],
    pattern: Annotated[PatternName, choice_option(PatternName, "kind of target")] = "chessboard",
    bundle: Annotated[Path | None, typer.Option(help="bundle to write the scale into; it then measures in mm")] = None,
) -> None:
    """Find the pixels per millimetre along x and y, which may differ, for --px-per-mm or for a bundle."""
    from blemish.imaging.read import read_image
    from blemish.imaging.scale import scale_from_target
    from blemish.inspection.bundle import open_bundle, replace_manifest
    from blemish.inspection.manifest import Scale

    if not 0 < pitch_mm < float("inf"):
        raise OptionError(f"--pitch-mm {pitch_mm:g}: give a positive number")
    opened = None if bundle is None else open_bundle(bundle)
    x, y = scale_from_target(read_image(image), columns, rows, pitch_mm, pattern)
    console.print(f"--px-per-mm {x:.6g},{y:.6g}")
    if opened is not None:
        replace_manifest(opened.path, opened.manifest.model_copy(update={"scale": Scale(x=x, y=y)}))
        console.print(f"{opened.path} now measures in mm with this scale", markup=False, soft_wrap=True)
