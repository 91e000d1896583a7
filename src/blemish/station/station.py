"""A station: its settings, record, service and figures, opened and closed together."""

import logging
import shutil
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO

from sqlalchemy import select

from blemish.errors import OptionError
from blemish.inspection.bundle import find_bundle
from blemish.station import sinks
from blemish.station.auth import has_tokens, load_secret
from blemish.station.database import Database, open_database
from blemish.station.golden import GoldenLossError, change_over
from blemish.station.image_store import sweep, sweep_strays, take_in
from blemish.station.jobs import Jobs
from blemish.station.metrics import Metrics
from blemish.station.models import BundleRow, RecipeRow
from blemish.station.recipes import active, make_recipe, take_bundle
from blemish.station.seed_reviews import inspect_known
from blemish.station.service import Service
from blemish.station.settings import Settings
from blemish.station.sources import watch_camera, watch_folder

log = logging.getLogger("blemish.station")
SWEEP_S = 600.0


@dataclass(frozen=True, slots=True)
class Station:
    settings: Settings
    database: Database
    service: Service
    metrics: Metrics
    jobs: Jobs
    secret: bytes = field(repr=False)


@contextmanager
def open_station(settings: Settings) -> Iterator[Station]:
    """Everything but the web server, running; raises OptionError where another station has the folder."""
    with ExitStack() as stack:
        stack.enter_context(_alone_in(settings.data))
        shutil.rmtree(settings.incoming, ignore_errors=True)  # of parts that were never answered
        database = open_database(settings.url)
        stack.callback(database.engine.dispose)
        metrics = Metrics()
        service = Service(settings, database, metrics.answered)
        service.start()
        stack.callback(service.stop)
        stop = threading.Event()
        threads = [threading.Thread(target=_sweep_often, args=(settings, database, stop), daemon=True)]
        for index, text in enumerate(settings.sinks):
            threads.append(sinks.deliver_in_background(text, settings.station, database, stop, name=f"sink-{index}"))
        for place in settings.known:
            threads.append(threading.Thread(target=inspect_known, args=(service, place, stop), daemon=True))
        for folder in settings.watch:
            threads.append(threading.Thread(target=watch_folder, args=(service, folder, stop), daemon=True))
        for camera in settings.cameras:
            threads.append(threading.Thread(target=watch_camera, args=(service, camera, stop), daemon=True))
        for thread in threads:
            thread.start()
        stack.callback(_stop, stop, threads)
        jobs = Jobs(settings.jobs)
        stack.callback(jobs.stop)
        yield Station(settings, database, service, metrics, jobs, load_secret(settings.data))


def check_access(settings: Settings, database: Database) -> None:
    """Raise OptionError for a station that others could reach without a token."""
    with database.reading() as session:
        if not settings.on_loopback and not has_tokens(session):
            raise OptionError(
                f"others can reach {settings.host}, and there is no token; make one first with --new-token NAME:admin"
            )


def start_with(station: Station, bundle: Path, who: str = "start") -> RecipeRow | None:
    """Take in a bundle and make it the recipe in use, unless it is known already; raises BundleError.

    One that loses parts of the golden set is kept as a recipe, and not used.
    """
    with find_bundle(bundle).open("rb") as stream:
        file = take_in(stream, station.settings.incoming, station.settings.max_bundle_bytes)
    try:
        with station.database.reading() as session:
            known = session.scalar(select(BundleRow).where(BundleRow.sha256 == file.sha256)) is not None
        row = take_bundle(station.database, file, station.settings.bundles, who)
        with station.database.writing() as session:
            if known and active(session) is not None:
                return None  # its thresholds may have been changed here since, or another one promoted
            name = "".join(c if c.isalnum() or c in "._-" else "-" for c in row.name)[:100] or "recipe"
            recipe = make_recipe(
                session, name, session.merge(row), who, note="the bundle that the station was started with"
            )
    finally:
        file.path.unlink(missing_ok=True)
    why = "given when the station was started"
    try:
        change_over(station.database, station.service.inspectors, station.settings.images, recipe.id, who, why)
    except GoldenLossError as error:
        log.warning("the recipe in use stays, and recipe %d of %s is not used: %s", recipe.id, bundle, error)
        return None
    return recipe


def _stop(stop: threading.Event, threads: list[threading.Thread]) -> None:
    stop.set()
    for thread in threads:
        thread.join(timeout=10)


def _sweep_often(settings: Settings, database: Database, stop: threading.Event) -> None:
    with database.reading() as session:
        sweep_strays(session, settings)
    while True:
        try:
            removed = 1
            while removed and not stop.is_set():
                with database.writing() as session:
                    removed = sweep(session, settings)
        except Exception:
            log.exception("images beyond their time could not be removed; the next try is in %.0f s", SWEEP_S)
        if stop.wait(SWEEP_S):
            return


@contextmanager
def _alone_in(folder: Path) -> Iterator[None]:
    """A lock on the station's folder that ends with the process, however that ends."""
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "lock").open("a+b") as stream:
        try:
            _lock(stream)
        except OSError as error:
            raise OptionError(
                f"another station runs in {folder}; give this one a folder of its own with --data"
            ) from error
        yield


def _lock(stream: IO[bytes]) -> None:
    try:
        import fcntl
    except ImportError:  # Windows
        import msvcrt

        msvcrt.locking(stream.fileno(), msvcrt.LK_NBLCK, 1)  # type: ignore[attr-defined]
    else:
        fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
