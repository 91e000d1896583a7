"""The state machine against every order of events that Hypothesis finds, and transition by transition."""

from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from blemish.errors import DataError
from blemish.inspection.result import Verdict
from blemish.station.line import machine
from blemish.station.line.machine import (
    LineError,
    LineLimits,
    LineState,
    Phase,
    PlcSignals,
    pack_part_id,
    read_part_id,
)

LIMITS = LineLimits(heartbeat_s=2.0, answer_s=5.0)


def step(line, signals, now, available=True):
    return machine.read_signals(line, signals, available, now, LIMITS)


def ready(now=1.0):
    line = step(LineState(), PlcSignals(heartbeat=1), 0.0)
    return step(line, PlcSignals(heartbeat=2), now)


def busy(now=1.1, number=7):
    return step(ready(), PlcSignals(3, request=True, number=number, part_id="A1"), now)


def test_a_part_from_request_to_acknowledgement():
    line = busy()
    assert (line.phase, line.number, line.part_id, line.verdict_code) == (Phase.BUSY, 7, "A1", 0)
    line = machine.take_answer(line, 7, Verdict.PASS, 1.5, LIMITS)
    assert (line.phase, line.number, line.verdict_code) == (Phase.RESULT, 7, 1)
    line = step(line, PlcSignals(4, request=False), 1.6)
    assert (line.phase, line.verdict_code, line.number) == (Phase.READY, 0, 0)


def test_a_restart_trusts_no_old_request_and_no_old_heartbeat():
    line = LineState()
    for now in range(5):
        line = step(line, PlcSignals(1), float(now))  # the counter stands still
    assert line.phase == Phase.NOT_READY
    line = step(line, PlcSignals(2, request=True, number=3), 5.0)
    assert line.phase == Phase.NOT_READY
    assert step(line, PlcSignals(3), 5.5).phase == Phase.READY


@pytest.mark.parametrize(
    ("signals", "now", "error"),
    [
        (PlcSignals(4, request=False, number=7, part_id="A1"), 1.2, LineError.ORDER),  # taken back
        (PlcSignals(4, request=True, number=8, part_id="A1"), 1.2, LineError.ORDER),
        (PlcSignals(4, request=True, number=7, part_id="B2"), 1.2, LineError.ORDER),
        (PlcSignals(4, request=True, number=7, part_id="A1", recipe=2), 1.2, LineError.ORDER),
        (PlcSignals(3, request=True, number=7, part_id="A1"), 3.2, LineError.HEARTBEAT),
        (PlcSignals(4, request=True, number=7, part_id="A1"), 6.2, LineError.TIMEOUT),
    ],
)
def test_what_ends_in_an_error_while_busy(signals, now, error):
    line = step(busy(), signals, now)
    assert (line.phase, line.error) == (Phase.ERROR, error)
    assert machine.take_answer(line, 7, Verdict.PASS, now, LIMITS) == line  # a late answer changes nothing
    assert step(line, PlcSignals(9, request=True, reset=True), now + 0.1).phase == Phase.ERROR
    again = step(line, PlcSignals(10, reset=True), now + 0.2)
    assert again.phase == Phase.NOT_READY
    assert step(again, PlcSignals(11), now + 0.3).phase == Phase.READY


def test_requests_out_of_order():
    assert step(ready(), PlcSignals(3, request=True, number=0), 1.1).error == LineError.ORDER
    assert step(ready(), PlcSignals(3, request=True, number=4), 1.1, available=False).error == LineError.ORDER
    assert step(ready(), PlcSignals(3), 1.1, available=False).phase == Phase.NOT_READY
    done = machine.take_answer(busy(), 7, Verdict.REJECT, 1.2, LIMITS)
    changed = step(done, PlcSignals(4, request=True, number=8, part_id="A1"), 1.3)
    assert (changed.error, changed.verdict_code) == (LineError.ORDER, 0)
    free = step(done, PlcSignals(4), 1.3)
    assert step(free, PlcSignals(5, request=True, number=7), 1.4).error == LineError.ORDER  # the number again
    assert step(free, PlcSignals(5, request=True, number=8), 1.4).phase == Phase.BUSY


@pytest.mark.parametrize(
    ("part_id", "phase"),
    [
        ("A" * 200, Phase.BUSY),
        ("LOT 7/A-17", Phase.BUSY),
        ("A" * 201, Phase.ERROR),  # longer than the record keeps
        ("A\x01", Phase.ERROR),
        ("A\u200b", Phase.ERROR),  # looks like another one
        ("S\udcc41", Phase.ERROR),  # of a byte that is no ASCII
    ],
)
def test_a_part_id_is_kept_whole_or_refused(part_id, phase):
    line = step(ready(), PlcSignals(3, request=True, number=4, part_id=part_id), 1.1)
    assert (line.phase, line.part_id) == (phase, part_id if phase == Phase.BUSY else "")
    assert line.error == (LineError.ORDER if phase == Phase.ERROR else LineError.NONE)


@given(st.text(max_size=40))
def test_a_part_id_is_sent_whole_or_not_at_all(part_id):
    """And whatever bytes a PLC writes, no two that differ before the filling become one id."""
    try:
        data = pack_part_id(part_id, 32)
    except DataError:
        return
    assert (len(data), read_part_id(data)) == (32, part_id)
    assert data == part_id.encode("ascii") + bytes(32 - len(part_id))


@given(st.binary(max_size=32), st.binary(max_size=32))
def test_other_bytes_are_another_part_id(one, other):
    filled = [data.split(b"\0")[0].rstrip(b" ") for data in (one, other)]
    assert (read_part_id(one) == read_part_id(other)) == (filled[0] == filled[1])


def test_answers_of_other_parts_and_late_ones_are_no_result():
    assert machine.take_answer(busy(), 6, Verdict.PASS, 1.2, LIMITS).phase == Phase.BUSY
    assert machine.take_answer(busy(), 7, Verdict.PASS, 9.0, LIMITS).error == LineError.TIMEOUT
    assert machine.take_failure(busy(), 7, 1.2).error == LineError.NO_ANSWER
    assert machine.take_answer(ready(), 7, Verdict.PASS, 1.2, LIMITS).phase == Phase.READY


class AnyOrder(RuleBasedStateMachine):
    """Signals, answers and time in any order; a model notes what was asked and answered."""

    def __init__(self):
        super().__init__()
        self.line, self.now, self.available = LineState(), 0.0, True
        self.signals = PlcSignals()
        self.beaten = None  # when the counter last changed
        self.answers = {}  # of the present request: number -> verdict, in time
        self.started = []

    def read(self):
        before = self.line
        if before.beat is not None and self.signals.heartbeat != before.beat:
            self.beaten = self.now
        self.line = step(before, self.signals, self.now, self.available)
        if self.line.phase == Phase.BUSY and before.phase != Phase.BUSY:
            assert before.phase == Phase.READY
            assert self.line.number not in (0, before.last_number)  # never the same part twice in a row
            self.started.append(self.line.number)
            self.answers = {}

    @rule(seconds=st.floats(0.01, 1.0), beats=st.booleans())
    def pass_time(self, seconds, beats):
        self.now += seconds
        if beats:
            self.signals = replace(self.signals, heartbeat=self.signals.heartbeat + 1)
        self.read()

    @rule(seconds=st.sampled_from([2.5, 6.0]))
    def long_silence(self, seconds):
        self.now += seconds
        self.read()

    @rule(number=st.integers(0, 4), part_id=st.sampled_from("ab"))
    def request(self, number, part_id):
        self.signals = replace(self.signals, heartbeat=self.signals.heartbeat + 1, request=True, reset=False,
                               number=number, part_id=part_id)  # fmt: skip
        self.read()

    @rule(reset=st.booleans())
    def lower(self, reset):
        self.signals = replace(self.signals, heartbeat=self.signals.heartbeat + 1, request=False, reset=reset)
        self.read()

    @rule(available=st.booleans())
    def change_availability(self, available):
        self.available = available
        self.read()

    @rule(number=st.integers(0, 4), verdict=st.sampled_from(list(Verdict)), wait=st.sampled_from([0.0, 6.0]))
    def answer(self, number, verdict, wait):
        self.now += wait
        in_time = self.line.phase == Phase.BUSY and number == self.line.number and self.now - self.line.since <= 5.0
        self.line = machine.take_answer(self.line, number, verdict, self.now, LIMITS)
        if in_time:
            self.answers = {number: verdict}

    @rule(number=st.integers(0, 4))
    def no_answer(self, number):
        self.line = machine.take_failure(self.line, number, self.now)

    @rule()
    def restart(self):
        self.line, self.beaten, self.answers = LineState(), None, {}

    @invariant()
    def a_pass_is_shown_only_for_the_answered_part(self):
        if self.line.verdict_code:
            assert self.line.phase == Phase.RESULT
            assert self.answers == {self.line.number: self.line.verdict}
            assert self.started[-1] == self.line.number
            assert self.signals.request
        else:
            assert self.line.phase != Phase.RESULT

    @invariant()
    def a_silent_plc_is_not_served(self):
        if self.line.phase in (Phase.READY, Phase.BUSY):
            assert self.beaten is not None
        if self.line.phase == Phase.ERROR:
            assert self.line.error != LineError.NONE


AnyOrder.TestCase.settings = settings(max_examples=150, stateful_step_count=40, deadline=None)
TestAnyOrder = AnyOrder.TestCase
