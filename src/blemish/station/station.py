"""A station: settings, database, service, metrics and jobs, opened and closed together."""

import logging
import shutil
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import IO

from sqlalchemy import select

from blemish.errors import OptionError
from blemish.files import write_atomic
from blemish.inspection.bundle import find_bundle
from blemish.inspection.engine_certificate import certificates_file
from blemish.station.auth import AccessList, has_access_control, load_secret
from blemish.station.cameras.connect import is_device
from blemish.station.cameras.watch import watch_device
from blemish.station.data_folder import bind_folder
from blemish.station.database import Database, open_database
from blemish.station.failures import Cause
from blemish.station.golden_set import GoldenLossError, activate_checked
from blemish.station.image_store import delete_expired, receive_file, set_orphans_aside
from blemish.station.jobs import JobRunner
from blemish.station.labelling.project import LabelProjects
from blemish.station.labelling.prompt_segmenter import PromptSegmenter
from blemish.station.line.cameras import LineCameras
from blemish.station.line.connect import line_context, open_line
from blemish.station.metrics import Metrics
from blemish.station.models import BundleRow, RecipeRow
from blemish.station.pictures import Pictures
from blemish.station.recipe_faults import warn_of_faults
from blemish.station.recipe_views import parse_views
from blemish.station.recipes import (
    active_recipe,
    bundle_path,
    import_bundle,
    make_recipe,
    recipe_title,
    warn_of_numbers,
)
from blemish.station.repository import expire_keys
from blemish.station.review_claims import ReviewClaims
from blemish.station.schemas import InspectionOut
from blemish.station.seed_reviews import seed_reviews
from blemish.station.service import InspectionService
from blemish.station.settings import Settings
from blemish.station.shift_reporter import ShiftReporter
from blemish.station.sign_in import SignIns
from blemish.station.signing import read_signature
from blemish.station.sink_keys import adopt_undelivered, sink_keys
from blemish.station.sinks import deliver_results, prune_outbox
from blemish.station.station_lease import StationLease
from blemish.station.status import StationStatus
from blemish.station.video_source import watch_camera
from blemish.station.watched_folder import watch_folder

log = logging.getLogger("blemish.station")
Work = Callable[[threading.Event], None]  # of a thread, until the event is set
START = "start"  # takes the place of a user in the audit log
CLEANUP_S = 600.0


@dataclass(frozen=True, slots=True)
class Station:
    settings: Settings
    database: Database
    service: InspectionService
    metrics: Metrics
    jobs: JobRunner
    status: StationStatus
    access: AccessList
    sign_ins: SignIns
    pictures: Pictures
    labelling: LabelProjects
    segmenter: PromptSegmenter | None
    secret: bytes = field(repr=False)
    cameras: LineCameras | None = None  # of the line
    claims: ReviewClaims = field(default_factory=ReviewClaims)

    def activate(
        self, recipe_id: int, user: str, comment: str, accept_losses: bool = False, instead_of: str | None = None
    ) -> None:
        """Activate a recipe that decides the golden set correctly; else raises GoldenLossError, and StaleRecipeError
        where another recipe than `instead_of` is active."""
        inspectors, images = self.service.inspectors, self.settings.images
        activate_checked(self.database, inspectors, images, recipe_id, user, comment, accept_losses, instead_of)


@contextmanager
def open_station(settings: Settings) -> Iterator[Station]:
    """Start everything except the web server; raises OptionError where another station uses the folder."""
    with ExitStack() as stack:
        stack.enter_context(_lock_folder(settings.data))
        shutil.rmtree(settings.incoming, ignore_errors=True)  # files of parts that were never answered
        database = open_database(settings.url, settings.time_limit_s)
        stack.callback(database.engine.dispose)
        lease = StationLease(database, settings.station, bind_folder(database, settings))
        lease.take()
        stack.callback(lease.give_up)
        keys = sink_keys(settings.station, settings.sinks)
        if settings.sinks:
            with database.writing() as session:
                adopt_undelivered(session, settings.station, settings.sinks)
        with database.reading() as session:
            warn_of_numbers(session)
            warn_of_faults(session)
        access = AccessList(database)
        metrics, sign_ins = Metrics(), SignIns(database, access)

        def on_answer(answer: InspectionOut, seconds: float) -> None:
            metrics.count_answer(answer, seconds)
            status.count_answer(answer)

        def on_failure(cause: Cause) -> None:
            metrics.count_failure(cause)
            status.count_failure(cause)

        service = InspectionService(settings, database, on_answer, on_failure)
        status = StationStatus(settings, database, service, lease)
        reporter = ShiftReporter(settings, database)
        status.others["shift reports"] = reporter.conditions
        service.start()
        stack.callback(service.stop)
        cameras = None
        if settings.line_cameras:
            cameras = LineCameras(settings.line_cameras, settings.data, service.sources)
            stack.callback(cameras.close)
        if settings.line is not None:
            if cameras is None:
                raise OptionError("a line needs a camera: give --line-camera")
            context = line_context(settings, database, sign_ins)
            stack.enter_context(open_line(service, settings.line, cameras, context=context))
        work: list[Work] = [
            partial(_clean_up, settings, database),
            status.watch,
            lease.watch,
            access.watch,
            *([] if settings.shift_reports is None else [reporter.watch]),
            *(partial(deliver_results, sink, key, database) for sink, key in zip(settings.sinks, keys, strict=True)),
            *(partial(seed_reviews, service, path) for path in settings.known),
            *(partial(watch_folder, service, folder) for folder in settings.watch),
            *(partial(watch_device if is_device(one) else watch_camera, service, one) for one in settings.cameras),
        ]
        stack.enter_context(_in_threads(work))
        pictures = Pictures()
        stack.callback(pictures.stop)
        jobs = JobRunner(settings.jobs)
        stack.callback(jobs.stop)
        segmenter = None if settings.segmenter is None else PromptSegmenter(settings.segmenter, settings.threads)
        labelling, secret = LabelProjects(settings.labelling), load_secret(settings.data)
        yield Station(
            settings, database, service, metrics, jobs, status, access, sign_ins, pictures, labelling, segmenter,
            secret, cameras=cameras,
        )  # fmt: skip


def _used_bundles(recipe: RecipeRow) -> set[str]:
    """Hashes of the bundles of all views."""
    views = parse_views(recipe.views)
    return {recipe.bundle.sha256} | (set() if views is None else {view.bundle for view in views.others.values()})


def check_access(settings: Settings, database: Database) -> None:
    """Raise OptionError for a station that other machines could reach without a token."""
    with database.reading() as session:
        if not (settings.on_loopback or settings.no_tokens or has_access_control(session)):
            raise OptionError(
                f"other machines can reach {settings.host}, and no token exists; create one with --new-token "
                "NAME:admin, or let everybody in with --no-tokens"
            )


def activate_bundle(station: Station, bundle: Path) -> RecipeRow | None:
    """Import a bundle and make it the active recipe, unless it was imported before; raises BundleError.

    A bundle that loses parts of the golden set becomes a recipe, but not the active one.
    """
    with find_bundle(bundle).open("rb") as stream:
        file = receive_file(stream, station.settings.incoming, station.settings.max_bundle_bytes)
    try:
        with station.database.reading() as session:
            known = session.scalar(select(BundleRow).where(BundleRow.sha256 == file.sha256)) is not None
        settings, signature = station.settings, read_signature(find_bundle(bundle))
        row = import_bundle(station.database, file, settings.bundles, START, settings.bundle_key, signature)
        if (certificates := certificates_file(find_bundle(bundle))).is_file():  # of engines, next to the bundle
            write_atomic(certificates_file(bundle_path(settings.bundles, file.sha256)), certificates.read_bytes())
        with station.database.writing() as session:
            active = active_recipe(session)
            if known and active is not None:  # its thresholds may have been changed since, or another recipe activated
                if file.sha256 not in _used_bundles(active):
                    title = recipe_title(active)
                    log.warning(
                        "recipe %s stays active; %s was imported before, activate its own on Recipes", title, bundle
                    )
                return None
            name = "".join(c if c.isalnum() or c in "._-" else "-" for c in row.name)[:100] or "recipe"
            name = f"recipe-{name}"[:100] if name.isdigit() else name
            recipe = make_recipe(
                session, name, session.merge(row), START, note="bundle given when the station was started"
            )
    finally:
        file.path.unlink(missing_ok=True)
    try:
        station.activate(recipe.id, START, "bundle given when the station was started")
    except GoldenLossError as error:
        log.warning("the active recipe stays, and recipe %d of %s is not activated: %s", recipe.id, bundle, error)
        return None
    return recipe


@contextmanager
def _in_threads(work: Sequence[Work]) -> Iterator[None]:
    stop = threading.Event()
    threads = [threading.Thread(target=own, args=(stop,), daemon=True) for own in work]
    for thread in threads:
        thread.start()
    try:
        yield
    finally:
        stop.set()
        for thread in threads:
            thread.join(timeout=10)


def _clean_up(settings: Settings, database: Database, stop: threading.Event) -> None:
    """Delete what the limits of images, keys and the outbox no longer allow, from time to time."""
    orphans = False
    while True:
        try:
            if not orphans:
                with database.reading() as session:
                    number = set_orphans_aside(session, settings)
                if number:
                    log.warning("%d stored pictures of no recorded part were moved to %s", number, settings.orphans)
                orphans = True
            removed = 1
            while removed and not stop.is_set():
                with database.writing() as session:
                    removed = delete_expired(session, settings)
            with database.writing() as session:
                expire_keys(session, settings.key_days)
                prune_outbox(session, settings.outbox_days)
        except Exception:
            log.exception("what has expired could not be deleted; retrying in %.0f s", CLEANUP_S)
        if stop.wait(CLEANUP_S):
            return


@contextmanager
def _lock_folder(folder: Path) -> Iterator[None]:
    """A lock on the station's folder; the operating system releases it when the process ends, even by a kill."""
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
