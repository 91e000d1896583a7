"""The state machine between a station and the controller of a line (PLC), without any input or output.

One part at a time, by a handshake of levels: the PLC raises `request` with a new number and the part's id, the station
is busy, then shows the result; the PLC lowers `request`, and the station is ready again. Everything else is an error
that stays until the PLC resets it: a request taken back or changed, a number used twice, a part id that cannot be kept
whole, a lost heartbeat, no answer in time. There is a verdict in one phase only, RESULT, and that is entered by the
answer to the present request alone.
"""

from dataclasses import dataclass, replace
from enum import IntEnum

from blemish.errors import DataError
from blemish.inspection.result import Verdict
from blemish.station.schemas import is_part_id


class Phase(IntEnum):
    """As a PLC reads it. 0 is what an empty or a dead memory holds, and means nothing good."""

    NOT_READY = 0
    READY = 1
    BUSY = 2
    RESULT = 3
    ERROR = 4


class LineError(IntEnum):
    """Why the line is in ERROR."""

    NONE = 0
    HEARTBEAT = 1  # the PLC's counter stands still
    ORDER = 2  # a request taken back, changed, repeated, made when the station was not ready; an unusable id
    TIMEOUT = 3  # no answer in time
    NO_ANSWER = 4  # the part could not be inspected or recorded
    RECORD = 5  # a transition could not be recorded
    STALLED = 6  # the station's own cycle stands still


VERDICT_CODES = {None: 0, Verdict.PASS: 1, Verdict.REVIEW: 2, Verdict.REJECT: 3}


@dataclass(frozen=True, slots=True)
class LineLimits:
    """Seconds."""

    heartbeat_s: float = 2.0  # within which the PLC's counter must change
    answer_s: float = 10.0  # from a request to its answer


LIMITS = LineLimits()


@dataclass(frozen=True, slots=True)
class PlcSignals:
    """What the PLC writes."""

    heartbeat: int = 0
    request: bool = False
    reset: bool = False
    number: int = 0  # of the part, another one each time, never 0
    recipe: int = 0  # id; 0: the active one
    part_id: str = ""  # as it came; `read_part_id` makes it of bytes


def read_part_id(data: bytes) -> str:
    """The id in ASCII, filled with blanks or with zeros.

    Other bytes become characters that no record takes, so that their request is an error: two parts must not get one
    id.
    """
    return data.split(b"\0")[0].decode("ascii", "surrogateescape").rstrip(" ")


def pack_part_id(part_id: str, size: int) -> bytes:
    """The other way round, in `size` bytes; raises DataError for an id that is not kept whole."""
    data = part_id.encode("ascii", "replace").ljust(size, b"\0")
    if len(data) > size or read_part_id(data) != part_id or not is_part_id(part_id):
        raise DataError(f"the part id {part_id!r} cannot be sent whole; use at most {size} printable ASCII characters")
    return data


@dataclass(frozen=True, slots=True)
class LineState:
    """All that the machine remembers. The initial state is that of a restart."""

    phase: Phase = Phase.NOT_READY
    error: LineError = LineError.NONE
    number: int = 0  # of the part in BUSY and RESULT
    part_id: str = ""
    recipe: int = 0
    verdict: Verdict | None = None
    since: float = 0.0  # when the phase began
    last_number: int = 0  # of the last part that was begun
    beat: int | None = None  # the PLC's counter
    heard: float | None = None  # when it last changed; None: not since the restart

    @property
    def verdict_code(self) -> int:
        """The verdict as the PLC reads it; 0, no verdict, in every phase but RESULT."""
        return VERDICT_CODES[self.verdict] if self.phase == Phase.RESULT else 0


def read_signals(
    line: LineState, signals: PlcSignals, available: bool, now: float, limits: LineLimits = LIMITS
) -> LineState:
    """The state after the PLC's signals were read; `available`: whether the station could inspect a part."""
    if line.beat is None:
        line = replace(line, beat=signals.heartbeat)  # an old value proves nothing; the next change does
    elif signals.heartbeat != line.beat:
        line = replace(line, beat=signals.heartbeat, heard=now)
    alive = line.heard is not None and now - line.heard <= limits.heartbeat_s
    if line.phase == Phase.ERROR:
        return _enter(line, Phase.NOT_READY, now) if signals.reset and not signals.request and alive else line
    if line.phase == Phase.NOT_READY:
        # A request that was there before cannot be told from a new one, so it must be lowered first.
        ready = alive and available and not signals.request and not signals.reset
        return _enter(line, Phase.READY, now) if ready else line
    if not alive:
        return fail(line, LineError.HEARTBEAT, now)
    if line.phase == Phase.READY:
        return _read_ready(line, signals, available, now)
    same = (signals.number, signals.recipe, signals.part_id) == (line.number, line.recipe, line.part_id)
    if line.phase == Phase.RESULT:
        if not signals.request:
            return _enter(line, Phase.READY if available else Phase.NOT_READY, now)
        return line if same else fail(line, LineError.ORDER, now)
    if not signals.request or not same:
        return fail(line, LineError.ORDER, now)
    return fail(line, LineError.TIMEOUT, now) if now - line.since > limits.answer_s else line


def _read_ready(line: LineState, signals: PlcSignals, available: bool, now: float) -> LineState:
    if signals.request:
        if not available or signals.number in (0, line.last_number) or not is_part_id(signals.part_id):
            return fail(line, LineError.ORDER, now)
        begun = _enter(line, Phase.BUSY, now)
        return replace(
            begun,
            number=signals.number,
            part_id=signals.part_id,
            recipe=signals.recipe,
            last_number=signals.number,
        )
    return line if available else _enter(line, Phase.NOT_READY, now)


def take_answer(line: LineState, number: int, verdict: Verdict, now: float, limits: LineLimits = LIMITS) -> LineState:
    """The state after a part's recorded answer; one that is late, or of another part, changes nothing."""
    if line.phase != Phase.BUSY or number != line.number:
        return line
    if now - line.since > limits.answer_s:
        return fail(line, LineError.TIMEOUT, now)
    return replace(
        _enter(line, Phase.RESULT, now), number=number, part_id=line.part_id, recipe=line.recipe, verdict=verdict
    )


def take_failure(line: LineState, number: int, now: float) -> LineState:
    """The state after a part could not be answered."""
    return fail(line, LineError.NO_ANSWER, now) if line.phase == Phase.BUSY and number == line.number else line


def fail(line: LineState, error: LineError, now: float) -> LineState:
    """Into ERROR, without a verdict; the first error stays."""
    return line if line.phase == Phase.ERROR else replace(_enter(line, Phase.ERROR, now), error=error)


def _enter(line: LineState, phase: Phase, now: float) -> LineState:
    """Another phase, in which nothing is left of the last part but its number."""
    return LineState(phase=phase, since=now, last_number=line.last_number, beat=line.beat, heard=line.heard)
