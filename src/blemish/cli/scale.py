"""`blemish scale`: pixels per millimetre from a picture of a target, and into a bundle if wished."""

from pathlib import Path
from typing import Annotated

import typer

from blemish.cli.console import console
from blemish.errors import OptionError


def scale(
    image: Annotated[Path, typer.Argument(help="picture of the target, square to the camera and to the picture")],
    columns: Annotated[int, typer.Option(min=3, help="inner corners of the chessboard, or circles, along x")],
    rows: Annotated[int, typer.Option(min=3, help="and along y")],
    pitch_mm: Annotated[float, typer.Option(help="from one to the next, in mm")],
    pattern: Annotated[str, typer.Option(help="chessboard or circles")] = "chessboard",
    bundle: Annotated[
        Path | None, typer.Option(help="write the scale into this bundle, which then measures mm")
    ] = None,
) -> None:
    """Find the pixels per millimetre along x and y, which may differ, for --px-per-mm or a bundle."""
    from blemish.imaging.read import read_image
    from blemish.imaging.scale import PATTERNS, scale_from_target
    from blemish.inspection.bundle import open_bundle, replace_manifest
    from blemish.inspection.manifest import Scale

    if not 0 < pitch_mm < float("inf"):
        raise OptionError(f"--pitch-mm {pitch_mm:g}: give a positive number")
    known = next((name for name in PATTERNS if name == pattern), None)
    if known is None:
        raise OptionError(f"--pattern {pattern}: choose {' or '.join(PATTERNS)}")
    opened = None if bundle is None else open_bundle(bundle)
    x, y = scale_from_target(read_image(image), columns, rows, pitch_mm, known)
    console.print(f"--px-per-mm {x:.6g},{y:.6g}", highlight=False)
    if opened is not None:
        replace_manifest(opened.path, opened.manifest.model_copy(update={"scale": Scale(x=x, y=y)}))
        console.print(f"{opened.path} measures in mm by it", markup=False, highlight=False, soft_wrap=True)
