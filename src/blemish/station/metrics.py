"""Prometheus metrics of a station."""

import threading
from collections.abc import Mapping
from dataclasses import asdict

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

from blemish.station.cameras.camera import CameraCounts
from blemish.station.failures import CAUSES, Cause
from blemish.station.models import KNOWN_ORIGIN
from blemish.station.schemas import InspectionOut


class Metrics:
    """The metrics of one station, in a registry of their own."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self._lock = threading.Lock()
        self.inspections = Counter(
            "blemish_inspections", "Answered parts", ["recipe", "verdict"], registry=self.registry
        )
        self.latency = Histogram(
            "blemish_answer_seconds",
            "From a part's submission to its recorded answer",
            buckets=(0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30),
            registry=self.registry,
        )
        self.refused = Counter("blemish_refused", "Parts refused because the queue was full", registry=self.registry)
        self.unreadable = Counter("blemish_unreadable", "Images that could not be read", registry=self.registry)
        self.unanswered = Counter(
            "blemish_unanswered", "Parts that arrived and got no verdict", ["cause"], registry=self.registry
        )
        for cause in CAUSES:
            self.unanswered.labels(cause)
        self.queue = Gauge("blemish_queue_depth", "Parts received and not yet answered", registry=self.registry)
        self.outbox = Gauge("blemish_outbox_pending", "Results not delivered yet", ["sink"], registry=self.registry)
        self.dead = Gauge("blemish_dead_letters", "Results that a sink refused", ["sink"], registry=self.registry)
        self.camera = Gauge(
            "blemish_camera_events",
            "Of a line's camera since the start: frames, lost, timeouts, reconnects, refused",
            ["camera", "event"],
            registry=self.registry,
        )

    def count_answer(self, answer: InspectionOut, seconds: float) -> None:
        if answer.origin == KNOWN_ORIGIN:
            return
        self.inspections.labels(answer.recipe.name, answer.verdict).inc()
        self.latency.observe(seconds)

    def count_failure(self, cause: Cause) -> None:
        self.unanswered.labels(cause).inc()

    def text(
        self, depth: int, pending: dict[str, int], dead: dict[str, int], cameras: Mapping[str, CameraCounts]
    ) -> bytes:
        with self._lock:
            self.queue.set(depth)
            for gauge, counts in ((self.outbox, pending), (self.dead, dead)):
                gauge.clear()  # else a sink that has none any more would keep its last number
                for sink, count in counts.items():
                    gauge.labels(sink).set(count)
            for name, faults in cameras.items():
                for event, number in asdict(faults).items():
                    self.camera.labels(name, event).set(number)
            return generate_latest(self.registry)
