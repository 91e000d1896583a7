"""A station's name in a record is used by one data folder at a time: counts, displays and alarms go by the name."""

import logging
import threading
from datetime import datetime, timedelta

from sqlalchemy import func, select
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from blemish.errors import OptionError
from blemish.station.database import Database
from blemish.station.models import LeaseRow, now

log = logging.getLogger("blemish.station")
RENEW_S = 15.0
EXPIRY_S = 60.0  # after its last sign of life a holder counts as gone


class StationLease:
    """The lease of one name by the data folder of id `folder`, which takes it over at once when it starts again."""

    def __init__(self, database: Database, station: str, folder: str) -> None:
        self.lost = False  # another station took the name, because this one gave no sign of life for so long
        self._database, self._station, self._folder = database, station, folder

    def take(self) -> None:
        """Raise OptionError where another station uses the name."""
        try:
            taken = self._renew()
        except IntegrityError:  # another one came in between
            taken = self._renew()
        if not taken:
            raise OptionError(
                f"another station runs as '{self._station}' on this record; give this one its own name with --station, "
                f"or start it again in {EXPIRY_S:.0f} s if that one is gone"
            )

    def watch(self, stop: threading.Event) -> None:
        """Renew it until `stop` is set."""
        while not stop.wait(RENEW_S):
            self.renew()

    def renew(self) -> None:
        try:
            self.lost = not self._renew()
        except Exception as error:
            log.warning("the lease of the name '%s' could not be renewed: %s", self._station, type(error).__name__)

    def give_up(self) -> None:
        """At the end, so that another folder may use the name at once."""
        try:
            with self._database.writing() as session:
                row = session.get(LeaseRow, self._station, with_for_update=True)
                if row is not None and row.folder == self._folder:
                    row.seen_at = None
        except Exception as error:
            log.warning("the lease of the name '%s' could not be given up: %s", self._station, type(error).__name__)

    def _renew(self) -> bool:
        with self._database.writing() as session:
            row = session.get(LeaseRow, self._station, with_for_update=True)
            time = _database_time(session, self._database.is_sqlite)
            if row is None:
                session.add(LeaseRow(station=self._station, folder=self._folder, seen_at=time))
            elif row.folder != self._folder and _is_alive(row, time):
                return False
            else:
                row.folder, row.seen_at = self._folder, time
        return True


def _is_alive(row: LeaseRow, time: datetime) -> bool:
    """By the difference in either direction, because clocks are set back too."""
    return row.seen_at is not None and abs(time - row.seen_at) < timedelta(seconds=EXPIRY_S)


def _database_time(session: Session, is_sqlite: bool) -> datetime:
    """One clock for all stations; those that share an SQLite file are on one machine."""
    return now() if is_sqlite else session.scalars(select(func.clock_timestamp())).one()
