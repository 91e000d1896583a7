"""A plant without a camera, for the tests of transports."""

import errno
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import pytest

from blemish.inspection.result import Verdict
from blemish.station.line.driver import LineDriver
from blemish.station.line.machine import LineLimits

LIMITS = LineLimits(heartbeat_s=0.6, answer_s=3.0)


class Plant:
    """Inspects by part id: `good…` passes, `bad…` is rejected, others have no answer. Notes what it recorded."""

    def __init__(self):
        self.recorded, self.transitions, self.disk_full = [], [], False
        self.pool, self.delay = ThreadPoolExecutor(1), 0.0

    def inspect(self, part, key):
        return self.pool.submit(self._inspect, part)

    def _inspect(self, part):
        time.sleep(self.delay)
        if not part.part_id.startswith(("good", "bad")):
            raise RuntimeError("no image")
        verdict = Verdict.PASS if part.part_id.startswith("good") else Verdict.REJECT
        self.recorded.append((part.number, part.part_id, verdict))
        return verdict

    def record(self, before, after):
        if self.disk_full:
            raise OSError(errno.ENOSPC, "no space left on device")
        self.transitions.append((before.phase, after.phase))

    def driver(self, wire, limits=LIMITS):
        return LineDriver(wire, self.inspect, lambda: True, self.record, limits)

    @contextmanager
    def running(self, wire, limits=LIMITS):
        stop = threading.Event()
        thread = threading.Thread(target=self.driver(wire, limits).run, args=(stop,))
        thread.start()
        try:
            yield
        finally:
            stop.set()
            thread.join()


@pytest.fixture
def plant():
    plant = Plant()
    yield plant
    plant.pool.shutdown()
