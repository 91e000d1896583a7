"""A station's data folder belongs to one record: with another one, its pictures would seem to belong to no part."""

import uuid
from itertools import chain, islice

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from blemish.errors import OptionError
from blemish.files import FrozenModel, load_yaml, validate, write_atomic
from blemish.station.database import Database, shown_url
from blemish.station.models import InspectionRow
from blemish.station.settings import Settings

FILE = "folder.json"
SAMPLE = 1000  # pictures, the newest, by which an older folder without the file is recognised


class FolderMark(FrozenModel):
    """The random ids of the folder and of its record."""

    folder: str
    record: str


def bind_folder(database: Database, settings: Settings) -> str:
    """The id of the data folder, which belongs to this record from now on; raises OptionError for another one's."""
    check_folder(database, settings)
    mark = _read_mark(settings)
    if mark is None:
        with database.reading() as session:
            mark = adopt_folder(session, database.record, settings)
    return mark.folder


def check_folder(database: Database, settings: Settings) -> None:
    """Raise OptionError for a folder that belongs to another record."""
    mark = _read_mark(settings)
    if mark is not None and mark.record != database.record:
        raise OptionError(
            f"{settings.data} belongs to another record than {shown_url(settings.url)}; use the --db that it was used "
            "with, or another --data"
        )


def adopt_folder(session: Session, record: str, settings: Settings) -> FolderMark:
    """Let the folder belong to a record that knows its pictures; raises OptionError where it does not know most."""
    days = sorted(settings.images.glob("*/"), reverse=True)
    newest = islice(chain.from_iterable(day.iterdir() for day in days), SAMPLE)
    names = [path.relative_to(settings.images).as_posix() for path in newest]
    row = InspectionRow
    known = session.scalar(select(func.count()).select_from(row).where(row.image_path.in_(names))) or 0
    if 2 * known < len(names):
        raise OptionError(
            f"{settings.images} has pictures of parts that are not in the record {shown_url(settings.url)}; use the "
            "--db that they belong to, or another --data"
        )
    before = _read_mark(settings)
    mark = FolderMark(folder=uuid.uuid4().hex if before is None else before.folder, record=record)
    write_atomic(settings.data / FILE, mark.model_dump_json())
    return mark


def _read_mark(settings: Settings) -> FolderMark | None:
    path = settings.data / FILE
    return validate(FolderMark, load_yaml(path, str(path)), str(path)) if path.exists() else None
