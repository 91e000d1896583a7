"""`blemish enroll`: a new class for a bundle that knows its classes by examples."""

from pathlib import Path
from typing import Annotated

import typer

from blemish.cli.console import check_outputs, console


def enroll(
    bundle: Annotated[
        Path,
        typer.Argument(
            metavar="BUNDLE", help="bundle of prototypical or matching, or its run folder", show_default=False
        ),
    ],
    name: Annotated[
        str, typer.Argument(metavar="NAME", help="class of the images, new or known to the bundle", show_default=False)
    ],
    images: Annotated[
        list[Path],
        typer.Argument(
            metavar="IMAGES...", help="images of the class, or folders of them; start with five", show_default=False
        ),
    ],
    out: Annotated[Path | None, typer.Option(metavar="FILE", help="new bundle to write; BUNDLE stays as it is")] = None,
) -> None:
    """Add a defect class to a bundle from a few images, without training and without PyTorch, in a second or two."""
    from blemish.dataset.image_files import list_images
    from blemish.inspection.enroll import enroll as add

    paths = [path for given in images for path in (list_images(given) if given.is_dir() else [given])]
    check_outputs([out], paths)
    manifest = add(bundle, name, paths, out)
    console.print(f"[bold]{out or bundle}[/bold] knows {', '.join(manifest.classes)}; {name} from {len(paths)} images")
