"""`blemish replay`: a recorded inspection done again."""

from pathlib import Path
from typing import Annotated

import typer

from blemish.cli.console import console, needs_extra
from blemish.cli.options import EngineOption
from blemish.errors import DataError

DIFFERS = 1


def replay(
    inspection: Annotated[
        int, typer.Argument(metavar="ID", help="number of a recorded inspection", show_default=False)
    ],
    data: Annotated[Path, typer.Option(help="folder of the station")] = Path("station"),
    db: Annotated[
        str | None, typer.Option(help="URL of a PostgreSQL database", show_default="SQLite in --data")
    ] = None,
    image: Annotated[Path | None, typer.Option(help="image file, where the station did not keep it")] = None,
    max_pixels: Annotated[int, typer.Option(min=1, help="largest image of the station, in px")] = 100_000_000,
    engine: EngineOption = "onnxruntime",
) -> None:
    """Repeat a recorded inspection with its own recipe, and compare the results.

    Exit code: 0 the results are equal, 1 they differ, 2 bad input.
    """
    with needs_extra("station"):
        from blemish.station import replay as again
        from blemish.station.database import open_database
        from blemish.station.image_store import stored_image
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
            row, Inspectors(settings).get(row.recipe), image or stored_image(row, settings.images), max_pixels
        )
    console.print(f"then: {row.verdict}, {row.label}, score {row.score}; {len(row.regions)} regions")
    now = found.inspection
    if now is None:
        console.print("now:  it cannot be inspected, so it needs review")
    else:
        regions = f"{len(now.regions)} regions"
        console.print(f"now:  {now.verdict}, {now.label}, score {now.score:g}; {regions}")
    if found.same:
        console.print("the answer is the same")
        return
    for line in found.differences:
        console.print(f"differs: {line}")
    raise typer.Exit(DIFFERS)
