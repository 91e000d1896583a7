"""How fast the whole path is, from file to verdict: batched throughput and the latency of single images."""

import resource
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from blemish.dataset.sample import Sample
from blemish.inspection.inspector import Inspector

IMAGES = 50
WARM_UP = 3


@dataclass(frozen=True)
class Speed:
    """Milliseconds are medians over single images; the steps are those of `Inspection.timings_ms`."""

    images_per_second: float  # batched, files read
    latency_ms: dict[str, float]  # median, p95: one image after another, file to verdict
    network_ms: float
    decode_ms: float
    read_ms: float
    prepare_ms: float
    peak_memory_mb: float
    engine: str
    threads: int | None
    images: int


def measure_speed(inspector: Inspector, samples: Sequence[Sample], limit: int = IMAGES) -> Speed:
    """Time the inspector on at most `limit` readable images, the first few to warm up and not counted."""
    chosen = list(samples[:: max(1, len(samples) // limit)])[:limit]
    for sample in chosen[:WARM_UP]:
        inspector.inspect(sample)
    latencies, steps = [], []
    for sample in chosen:
        begin = time.perf_counter()
        result = inspector.inspect(sample)
        latencies.append(1000 * (time.perf_counter() - begin))
        steps.append(result.timings_ms)
    begin = time.perf_counter()
    for _ in inspector.inspect(chosen):
        pass
    seconds = time.perf_counter() - begin
    return Speed(
        images_per_second=len(chosen) / seconds,
        latency_ms={"median": float(np.median(latencies)), "p95": float(np.percentile(latencies, 95))},
        **{
            f"{step}_ms": float(np.median([s[step] for s in steps]))
            for step in ("network", "decode", "read", "prepare")
        },
        peak_memory_mb=peak_memory_mb(),
        engine=inspector.engine.name,
        threads=inspector.engine.threads,
        images=len(chosen),
    )


def peak_memory_mb() -> float:
    """The largest resident memory that this process has had."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / 2**20 if sys.platform == "darwin" else peak / 1024
