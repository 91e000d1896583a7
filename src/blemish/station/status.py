"""The present state of a station: its newest part, and its sources, sinks, engine, database and disk."""

import logging
import shutil
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cache, partial

from sqlalchemy import func, select, text
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.orm import Session

from blemish.inspection.result import Verdict
from blemish.station import alarms
from blemish.station.alarms import AlarmCondition
from blemish.station.database import Database
from blemish.station.failures import Cause
from blemish.station.image_store import MIN_DISK_BYTES
from blemish.station.models import KNOWN_ORIGIN, AlarmRow, InspectionRow, OutboxRow
from blemish.station.populations import used_recipes
from blemish.station.production_counts import newest_part
from blemish.station.qualifications import qualification_conditions
from blemish.station.recipe_faults import RecipeFaults
from blemish.station.recipes import active_recipe, recipe_title
from blemish.station.schemas import InspectionOut
from blemish.station.service import InspectionService
from blemish.station.settings import GIB, Settings
from blemish.station.sink_keys import count_unconfigured, is_pending, sink_keys
from blemish.station.sinks import without_password
from blemish.station.source_states import ComponentState, State
from blemish.station.station_lease import StationLease
from blemish.translation import Message

log = logging.getLogger("blemish.station")
CHECK_S = 1.0
SLOW_CHECK_S = 30.0  # of trends, whose queries read thousands of rows
STALE_S = 5.0  # without a finished check the database hangs
SINK_STUCK_S = 30.0  # the age of the oldest undelivered result
CLOCK_JUMP_S = 2.0
_OTHER_STATION = ComponentState("station", "", "lost", Message("another station uses its name"))


@dataclass(frozen=True, slots=True)
class LastPart:
    """The newest part of the line; known parts are none of the line."""

    id: int
    verdict: str
    recipe: str  # name and version of the recipe that decided it
    answered: float  # monotonic clock

    @property
    def age_s(self) -> float:
        return time.monotonic() - self.answered


class StationStatus:
    """The state shown by pages and the heartbeat, kept in memory so that no viewer queries the database."""

    def __init__(self, settings: Settings, database: Database, service: InspectionService, lease: StationLease) -> None:
        self.settings = settings
        self.last: LastPart | None = None
        self.last_reject = 0  # id of the newest rejected part
        self.recipe: str | None = None
        self._bundle: str | None = None  # hash of its bundle
        self.alarms: list[AlarmRow] = []  # that hold, or are not acknowledged
        self.others: dict[str, Callable[[], list[AlarmCondition]]] = {}  # checks of what other threads know
        self._database = database
        self._service = service
        self._lease = lease
        self._came = time.monotonic()  # the last part that came and got no verdict, or the start
        self._database_error: str | None = None
        self._sinks: list[ComponentState] = []
        self._checked = time.monotonic()
        self._clock = _clock_offset()
        self._unconfigured: tuple[float, list[ComponentState]] = (-SLOW_CHECK_S, [])  # till when, sinks given no longer
        self._slow: tuple[float, int, list[AlarmCondition] | None] = (-SLOW_CHECK_S, -1, [])  # None: it failed
        self._held: dict[str, list[AlarmCondition]] = {}  # by the check that found them
        self._recipe_faults = RecipeFaults()
        self._failing: set[str] = set()  # checks that could not be made the last time

    def count_answer(self, answer: InspectionOut) -> None:
        """Called with every recorded part."""
        if answer.origin != KNOWN_ORIGIN:
            self.last = LastPart(answer.id, answer.verdict, recipe_title(answer.recipe), time.monotonic())
            if answer.verdict == Verdict.REJECT:
                self.last_reject = answer.id

    def count_failure(self, cause: Cause) -> None:
        """Called with every part that got no verdict; for that of a sender that is gone nothing is at fault."""
        if cause != "withdrawn":
            self._came = time.monotonic()

    def components(self) -> list[ComponentState]:
        disk = shutil.disk_usage(self.settings.data).free
        low = disk < self.settings.min_free_gib * GIB
        free = Message("{free:.1f} GiB free", {"free": disk / GIB})
        failures = self._service.failures
        error = self._database_error or failures.present("database")
        if error is None and time.monotonic() - self._checked > STALE_S:
            error = "no answer"
        failure = Message("stalled") if self._service.stalled() else None
        if failure is None and (reason := failures.present("engine")) is not None:
            failure = Message("no verdicts: {reason}", {"reason": reason})
        waiting = Message("{number} waiting", {"number": self._service.depth})
        proof = None if self._bundle is None else self._service.inspectors.proofs.get(self._bundle)
        return [
            *self._service.sources.states(),
            *self._sinks,
            ComponentState("engine", self.settings.engine, "lost" if failure else "ok", failure or waiting),
            *([] if proof is None else [proof.state]),
            *([_OTHER_STATION] if self._lease.lost else []),
            ComponentState("database", self._database.engine.dialect.name, "lost" if error else "ok",
                           Message(error or "reachable")),
            ComponentState("disk", "", "lost" if disk < MIN_DISK_BYTES else "warning" if low else "ok", free),
        ]  # fmt: skip

    def watch(self, stop: threading.Event) -> None:
        """Check everything once a second, and keep the alarms of the record up to date, until `stop` is set."""
        while not stop.is_set():
            try:
                self._check()
                self._database_error = None
            except SQLAlchemyError as error:
                self._database_error = type(error).__name__
            except Exception as error:
                self._database_error = type(error).__name__
                log.exception("the state of the station could not be checked")
            self._checked = time.monotonic()
            stop.wait(CHECK_S)

    def _check(self) -> None:
        station = self.settings.station
        with self._database.reading() as session:
            session.execute(text("SELECT 1"))
            conditions = self._conditions(session)
            changes = alarms.find_changes(session, station, conditions)
        if changes:
            with self._database.writing() as session:
                alarms.update(session, station, conditions)
        with self._database.reading() as session:
            self.alarms = alarms.list_open(session, station)

    def _conditions(self, session: Session) -> list[AlarmCondition]:
        """Each check by itself: of one that cannot be made, what held last still holds, and that is an alarm too."""
        used = cache(partial(used_recipes, session, self.settings.station))  # once for both that ask
        checks: dict[str, Callable[[], list[AlarmCondition]]] = {
            "recipe": lambda: self._load_recipe(session),
            "newest part": lambda: self._load_last(session),
            "sinks": lambda: self._load_sinks(session),
            "clock": self._clock_conditions,
            "idle line": self._idle_conditions,
            "components": self._component_conditions,
            "parts": lambda: alarms.part_conditions(session, self.settings),
            "qualification": lambda: qualification_conditions(session, used()),
            "recipes": lambda: self._recipe_faults.conditions(session, used()),
            "trends": lambda: self._trend_conditions(session),
            **self.others,
        }
        failing = set()
        for name, check in checks.items():
            try:
                self._held[name] = check()
            except SQLAlchemyError:
                raise
            except Exception:
                failing.add(name)
                if name not in self._failing:
                    log.exception("the state of the station (%s) could not be checked", name)
        self._failing = failing
        held = [condition for conditions in self._held.values() for condition in conditions]
        return held + [AlarmCondition("check", name) for name in sorted(failing)]

    def _load_recipe(self, session: Session) -> list[AlarmCondition]:
        recipe = active_recipe(session)
        self.recipe = None if recipe is None else recipe_title(recipe)
        self._bundle = None if recipe is None else recipe.bundle.sha256
        return []

    def _load_last(self, session: Session) -> list[AlarmCondition]:
        newest = newest_part(session, self.settings.station) if self.last is None else None
        if newest is not None and self.last is None:
            age = max(0.0, (datetime.now(UTC) - newest.created_at).total_seconds())
            self.last = LastPart(newest.id, newest.verdict, recipe_title(newest.recipe), time.monotonic() - age)
            self.last_reject = newest.id if newest.verdict == Verdict.REJECT else 0
        return []

    def _load_sinks(self, session: Session) -> list[AlarmCondition]:
        station, addresses = self.settings.station, self.settings.sinks
        if time.monotonic() > self._unconfigured[0]:  # it reads the whole outbox
            left = count_unconfigured(session, station, addresses)
            self._unconfigured = time.monotonic() + SLOW_CHECK_S, [
                ComponentState("sink", name, "warning", Message(
                    "{number} waiting; the station was started without this sink", {"number": number}
                )) for name, number in left.items()
            ]  # fmt: skip
        states = [_sink_state(session, *named) for named in zip(sink_keys(station, addresses), addresses, strict=True)]
        self._sinks = states + self._unconfigured[1]
        return []

    def _clock_conditions(self) -> list[AlarmCondition]:
        before, self._clock = self._clock, _clock_offset()
        jump = self._clock - before
        return [AlarmCondition("clock", value=jump)] if abs(jump) > CLOCK_JUMP_S else []

    def _idle_conditions(self) -> list[AlarmCondition]:
        limit, last, idle = self.settings.no_part_s, self.last, time.monotonic() - self._came
        idle = idle if last is None else min(last.age_s, idle)
        return [AlarmCondition("no_part", value=limit)] if limit is not None and idle > limit else []

    def _component_conditions(self) -> list[AlarmCondition]:
        found = []
        for component in self.components():
            if component.state != "ok" and component.kind in ("source", "line", "sink", "engine", "disk"):
                value = shutil.disk_usage(self.settings.data).free / GIB if component.kind == "disk" else None
                found.append(AlarmCondition(component.kind, component.name, value))
        return found

    def _trend_conditions(self, session: Session) -> list[AlarmCondition]:
        newest = 0 if self.last is None else self.last.id
        due, known, found = self._slow
        if (newest != known or found is None) and time.monotonic() > due:
            self._slow = (time.monotonic() + SLOW_CHECK_S, newest, None)  # until it is made
            found = alarms.trend_conditions(session, self.settings.station)
            self._slow = (time.monotonic() + SLOW_CHECK_S, newest, found)
        if found is None:
            raise RuntimeError("the last check of trends failed")
        return found


def _sink_state(session: Session, key: str, address: str) -> ComponentState:
    row = OutboxRow
    undelivered = (row.sink == key) & row.delivered_at.is_(None)
    pending = (row.sink == key) & is_pending()
    number = session.scalar(select(func.count()).select_from(row).where(pending)) or 0
    query = select(InspectionRow.created_at, row.error).join(InspectionRow, InspectionRow.id == row.inspection_id)
    oldest = session.execute(query.where(pending).order_by(row.id).limit(1)).first()
    dead = session.scalar(select(func.count()).select_from(row).where(undelivered, row.dead_at.is_not(None))) or 0
    state: State = "warning" if dead else "ok"
    if oldest is not None:
        stuck = (datetime.now(UTC) - oldest.created_at).total_seconds() > SINK_STUCK_S
        state = "lost" if stuck or oldest.error is not None else state
    detail = Message("{number} waiting", {"number": number})
    if dead:
        detail = Message("{number} waiting, {dead} refused", {"number": number, "dead": dead})
    return ComponentState("sink", without_password(address), state, detail)


def _clock_offset() -> float:
    return time.time() - time.monotonic()
