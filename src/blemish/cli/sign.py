"""`blemish sign`: sign a bundle for stations that import signed bundles only."""

from pathlib import Path
from typing import Annotated

import typer

from blemish.cli.console import console, needs_extra
from blemish.inspection.bundle import find_bundle


def sign(
    bundle: Annotated[Path, typer.Argument(help="bundle file, or folder of a run")],
    key: Annotated[Path, typer.Option(help="private key (PEM, Ed25519)")],
    new_key: Annotated[
        bool, typer.Option("--new-key", help="make the key first, with the public one next to it (.pub)")
    ] = False,
) -> None:
    """Sign a bundle with an Ed25519 key.

    The signature is written next to the bundle (.sig). A station that was started with --bundle-key FILE.pub imports
    only bundles with a valid one.
    """
    with needs_extra("station"):
        from blemish.station.signing import make_keys, sign_bundle
    if new_key:
        make_keys(key, key.with_name(key.name + ".pub"))
    console.print(str(sign_bundle(find_bundle(bundle), key)), soft_wrap=True)
