"""`blemish record`: verify, back up and restore the record of a station."""

from pathlib import Path
from typing import Annotated, Any

import typer

from blemish.cli.console import console, messages, needs_extra
from blemish.errors import OptionError
from blemish.files import validate

record = typer.Typer(help="Verify, back up and restore the record of a station.", no_args_is_help=True)
DataOption = Annotated[Path, typer.Option(help="folder of the station")]
DatabaseOption = Annotated[
    str | None, typer.Option(help="URL of a PostgreSQL database", show_default="SQLite in --data")
]


@record.command()
def verify(data: DataOption = Path("station"), db: DatabaseOption = None) -> None:
    """Check the hash chain of the audit log: no row was changed, removed or inserted.

    Prints the number of rows and the hash of the last one; note it elsewhere, to find a log that was cut short as well.
    """
    settings = _settings(data, db)
    from blemish.station.audit_chain import verify_chain
    from blemish.station.database import open_database

    database = open_database(settings.url)
    try:
        with database.reading() as session:
            count, head = verify_chain(session.connection())
    except ValueError as error:
        raise OptionError(str(error)) from error
    finally:
        database.engine.dispose()
    console.print(f"sound: {count} rows, the last one {head or '-'}", soft_wrap=True, highlight=False)


@record.command()
def backup(
    file: Annotated[Path, typer.Argument(help="file to write (.zip)")],
    data: DataOption = Path("station"),
    db: DatabaseOption = None,
    images: Annotated[bool, typer.Option(help="with the stored images")] = True,
) -> None:
    """Write record, bundles and stored images to one file, while the station runs."""
    settings = _settings(data, db)
    if file.exists():
        raise OptionError(f"{file} exists and would be overwritten; name a new file")
    from blemish.station.backup import write_backup

    counts = write_backup(settings, file, images)
    console.print(f"{counts['inspections']} inspections, {counts['reviews']} reviews in {file}", soft_wrap=True)


@record.command()
def restore(
    file: Annotated[Path, typer.Argument(help="file that `backup` wrote", exists=True, dir_okay=False)],
    data: DataOption = Path("station"),
    db: DatabaseOption = None,
) -> None:
    """Restore a backup into an empty folder and database, of either kind."""
    settings = _settings(data, db, must_exist=False)
    from blemish.station.backup import count_missing_images, restore_backup

    counts = restore_backup(settings, file)
    console.print(f"{counts['inspections']} inspections, {counts['reviews']} reviews restored", soft_wrap=True)
    missing = count_missing_images(settings)
    if missing:
        messages.print(f"the images of {missing} inspections are not in the backup, and not in the folder")


def _settings(data: Path, db: str | None, must_exist: bool = True) -> Any:
    with needs_extra("station"):
        from blemish.station.settings import Settings
    if must_exist and db is None and not (data / "station.db").is_file():
        raise OptionError(f"there is no record in {data}; name the station's folder with --data")
    return validate(Settings, {"data": data, "db": db}, "record")
