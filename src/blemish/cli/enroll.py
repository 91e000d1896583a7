"""`blemish enroll`: a new class for a bundle that knows its classes by examples."""

from pathlib import Path
from typing import Annotated

import typer

from blemish.cli.console import console


def enroll(
    bundle: Annotated[Path, typer.Argument(help="bundle of prototypical or matching, or its run folder")],
    name: Annotated[str, typer.Argument(help="class of the images; a new one, or one that the bundle knows")],
    images: Annotated[list[Path], typer.Argument(help="images of it, or folders of them; five are a good start")],
    out: Annotated[Path | None, typer.Option(help="write another bundle and leave this one as it is")] = None,
) -> None:
    """Teach a bundle a new defect class from a few images: no training, no PyTorch, a second or two."""
    from blemish.dataset.image_files import images_in
    from blemish.inspection.enroll import enroll as add

    paths = [path for given in images for path in (images_in(given) if given.is_dir() else [given])]
    manifest = add(bundle, name, paths, out)
    console.print(
        f"[bold]{out or bundle}[/bold] knows {', '.join(manifest.classes)}; {name} from {len(paths)} images",
        highlight=False,
    )
