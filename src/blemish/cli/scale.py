"""`blemish scale`: pixels per millimetre from an image of a calibration target."""

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from blemish.cli.console import check_outputs, console, messages, warn, write_json
from blemish.cli.options import JsonOption, choice_option, scale_text
from blemish.errors import OptionError

if TYPE_CHECKING:
    from blemish.inspection.manifest import Manifest

PatternName = Literal["chessboard", "circles"]


def scale(
    image: Annotated[
        Path, typer.Argument(metavar="IMAGE", help="image of the flat target, filling the view", show_default=False)
    ],
    columns: Annotated[
        int, typer.Option(min=3, help="number of inner corners, or circles, along x", show_default=False)
    ],
    rows: Annotated[int, typer.Option(min=3, help="number of inner corners, or circles, along y", show_default=False)],
    pitch_mm: Annotated[
        float, typer.Option(help="distance from one corner or circle to the next, in mm", show_default=False)
    ],
    pattern: Annotated[PatternName, choice_option(PatternName, "kind of target")] = "chessboard",
    pitch_uncertainty_mm: Annotated[
        float, typer.Option(min=0, help="uncertainty of that distance, within which 90 % lie")
    ] = 0.0,
    telecentric: Annotated[
        bool, typer.Option("--telecentric", help="the lens is telecentric: fit no perspective")
    ] = False,
    bundle: Annotated[Path | None, typer.Option(help="bundle to write the scale into; it then measures in mm")] = None,
    json: JsonOption = None,
) -> None:
    """Find the pixels per millimetre along x and y, which may differ, for --px-per-mm or for a bundle.

    Perspective and lens distortion are fitted apart from the scale. Images are not rectified: how much the scale varies
    over the image is part of its uncertainty, which goes into the bundle and with it into measurements in mm.
    """
    from blemish.imaging.read import read_image
    from blemish.imaging.scale import MIN_COVERAGE, scale_from_target
    from blemish.inspection.bundle import open_bundle, replace_manifest
    from blemish.inspection.manifest import Scale

    if not 0 < pitch_mm < float("inf"):
        raise OptionError(f"--pitch-mm {pitch_mm:g}: give a positive number")
    opened = None if bundle is None else open_bundle(bundle)
    check_outputs([json], [image, None if opened is None else opened.path])
    pixels = read_image(image)
    if opened is not None:
        _check_size(image, pixels.shape[:2], opened.manifest)
    found = scale_from_target(pixels, columns, rows, pitch_mm, pattern, pitch_uncertainty_mm, telecentric)
    screen = messages if str(json) == "-" else console
    screen.print(f"--px-per-mm {scale_text(found.x, found.y)}")
    screen.print(
        f"residual {found.residual_px:.3f} px · lens distortion {found.distortion:+.2%} at the corners · perspective "
        f"{found.perspective:.2%} · uncertainty ±{found.uncertainty:.2%}",
        soft_wrap=True,
    )
    if found.coverage < MIN_COVERAGE:
        warn(f"the target covers {found.coverage:.0%} of the image: distortion is extrapolated; use a larger one")
    if json is not None:
        write_json(
            {
                "image": str(image),
                "columns": columns,
                "rows": rows,
                "pitch_mm": pitch_mm,
                "telecentric": telecentric,
                **asdict(found),
            },
            json,
        )
    if opened is not None:
        own = Scale(x=found.x, y=found.y, uncertainty=found.uncertainty)
        replace_manifest(opened.path, opened.manifest.model_copy(update={"scale": own}))
        screen.print(f"{opened.path} now measures in mm with this scale", markup=False, soft_wrap=True)


def _check_size(image: Path, size: tuple[int, ...], manifest: "Manifest") -> None:
    """Raise OptionError where the target's image is not of the size of the images that the scale is for."""
    spec = manifest.input.pixels
    if spec is None:
        return
    if spec.size is None:
        warn(f"the bundle was trained on images of several sizes; the scale holds for {size[1]}×{size[0]} only")
    elif spec.size != size:
        raise OptionError(
            f"{image} has {size[1]}×{size[0]} pixels, and the images of the bundle {spec.size[1]}×{spec.size[0]}; take "
            "the target with the camera settings of the parts"
        )
