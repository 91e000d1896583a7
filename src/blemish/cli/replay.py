"""`blemish replay`: a recorded inspection done again."""

from pathlib import Path
from typing import Annotated

import typer

from blemish.cli.console import console, needs_extra
from blemish.errors import DataError

DIFFERS = 1


def replay(
    inspection: Annotated[int, typer.Argument(metavar="ID", help="of a recorded inspection")],
    data: Annotated[Path, typer.Option(help="the station's own folder")] = Path("station"),
    db: Annotated[
        str | None, typer.Option(help="URL of a PostgreSQL database", show_default="SQLite in --data")
    ] = None,
    image: Annotated[Path | None, typer.Option(help="the image, where the station did not keep it")] = None,
    max_pixels: Annotated[int, typer.Option(min=1, help="the station's limit")] = 100_000_000,
    engine: Annotated[str, typer.Option(help="onnxruntime or openvino")] = "onnxruntime",
) -> None:
    """Do a recorded inspection again, by its own recipe, and say whether the answer is the same (else exit code 1)."""
    with needs_extra("station"):
        from blemish.station import replay as again
        from blemish.station.database import open_database
        from blemish.station.image_store import kept_image
        from blemish.station.models import InspectionRow
        from blemish.station.recipes import Inspectors
        from blemish.station.settings import Settings
    if db is None and not (data / "station.db").exists():
        raise DataError(f"there is no record in {data}; name the station's folder with --data")
    settings = Settings(data=data, db=db, engine=engine)
    with open_database(settings.url).reading() as session:
        row = session.get(InspectionRow, inspection) if 0 < inspection < 2**31 else None
        if row is None:
            raise DataError(f"there is no inspection {inspection} in this record")
        found = again.replay(
            row, Inspectors(settings).get(row.recipe), image or kept_image(row, settings.images), max_pixels
        )
    console.print(f"then: {row.verdict}, {row.label}, score {row.score}; {len(row.regions)} regions", highlight=False)
    now = found.inspection
    if now is None:
        console.print("now:  it cannot be inspected, so it is to be reviewed", highlight=False)
    else:
        regions = f"{len(now.regions)} regions"
        console.print(f"now:  {now.verdict}, {now.label}, score {now.score:g}; {regions}", highlight=False)
    if found.same:
        console.print("the answer is the same")
        return
    for line in found.differences:
        console.print(f"differs: {line}", highlight=False)
    raise typer.Exit(DIFFERS)
