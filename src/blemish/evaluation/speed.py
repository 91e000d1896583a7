"""Speed of the whole path from file to verdict: batched throughput and the latency of single images."""

import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from blemish.dataset.sample import Sample
from blemish.errors import BlemishError
from blemish.inspection.inspector import Inspector

MAX_IMAGES = 50
WARM_UP = 3
MAX_SECONDS = 20.0  # for single images; a slow bundle is timed on fewer of them


@dataclass(frozen=True)
class Speed:
    """Times of steps are medians over single images; the steps are those of `Inspection.timings_ms`."""

    images_per_second: float  # many images, batched, files read
    latency_ms: dict[str, float]  # median, p95: one image after another, file to verdict
    network_ms: float
    decode_ms: float
    read_ms: float
    prepare_ms: float
    peak_memory_mb: float | None
    engine: str
    threads: int | None
    batch_size: int
    images: int


def measure_speed(inspector: Inspector, samples: Sequence[Sample], limit: int = MAX_IMAGES) -> Speed | None:
    """Time the inspector on at most `limit` images; the first few warm up and are not counted.

    Images that cannot be read are left out; None where there are no others.
    """
    chosen = samples[:: max(1, len(samples) // limit)][:limit]
    for sample in chosen[:WARM_UP]:
        _timed(inspector, sample)
    start = time.perf_counter()
    readable: list[Sample] = []
    latencies: list[float] = []
    steps: list[dict[str, float]] = []
    for sample in chosen:
        if time.perf_counter() - start > MAX_SECONDS and readable:
            break
        timed = _timed(inspector, sample)
        if timed is not None:
            readable.append(sample)
            latencies.append(timed[0])
            steps.append(timed[1])
    if not readable:
        return None
    start = time.perf_counter()
    for _ in inspector.inspect(readable):
        pass
    seconds = time.perf_counter() - start
    median = {step: float(np.median([s[step] for s in steps])) for step in ("network", "decode", "read", "prepare")}
    return Speed(
        images_per_second=len(readable) / seconds,
        latency_ms={"median": float(np.median(latencies)), "p95": float(np.percentile(latencies, 95))},
        network_ms=median["network"],
        decode_ms=median["decode"],
        read_ms=median["read"],
        prepare_ms=median["prepare"],
        peak_memory_mb=peak_memory_mb(),
        engine=inspector.engine.name,
        threads=inspector.engine.threads,
        batch_size=inspector.batch_size,
        images=len(readable),
    )


def peak_memory_mb() -> float | None:
    """The largest resident memory that this process has had; None where the system does not report it (Windows)."""
    try:
        import resource
    except ImportError:
        return None
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / 2**20 if sys.platform == "darwin" else peak / 1024


def _timed(inspector: Inspector, sample: Sample) -> tuple[float, dict[str, float]] | None:
    """Milliseconds from file to verdict, and those of the steps."""
    begin = time.perf_counter()
    try:
        result = inspector.inspect(sample)
    except BlemishError:
        return None
    return 1000 * (time.perf_counter() - begin), result.timings_ms
