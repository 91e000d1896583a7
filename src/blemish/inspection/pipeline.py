"""Many images through one graph: read and prepare the next batch, and decode the last, while the network runs.

Reading, preparing, running and decoding are calls that work outside Python's lock, so threads overlap. At most two
batches and the results of two are held at a time, and a batch is closed early when its images are large.
"""

import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from itertools import islice
from typing import Any, TypeVar

import numpy as np

from blemish.arrays import FloatMap, Mask
from blemish.errors import BlemishError
from blemish.inspection.result import Inspection, Outputs
from blemish.inspection.stitching import Found

MAX_BATCH_BYTES = 128 * 2**20  # of images that are held for one batch
Item = TypeVar("Item")


@dataclass(frozen=True, slots=True)
class Unreadable:
    """Stands in the place of an image that could not be inspected."""

    source: str
    message: str


@dataclass(slots=True)
class Job:
    """An image on its way through the inspector."""

    image: np.ndarray[Any, Any]
    view: np.ndarray[Any, Any]  # what windows are cut from: the image, or a turned crop of it
    valid: Mask | None
    found: Found
    source: str | None
    timings_ms: dict[str, float]
    template: np.ndarray[Any, Any] | None = None  # as the view
    product: str | None = None
    missing: int = 0  # windows that the network has not seen yet
    result: "Future[Inspection] | None" = None
    failure: BlemishError | None = None  # of a window that could not be prepared


@dataclass(slots=True)
class Failed:
    """An item that could not be read."""

    source: str
    error: BlemishError


@dataclass(slots=True)
class Batch:
    """Windows for one run of the network, and the items that begin with them."""

    begun: list[Job | Failed] = field(default_factory=list)
    places: list[tuple[Job, int]] = field(default_factory=list)
    windows: list[FloatMap] = field(default_factory=list)
    held: int = 0


@dataclass(frozen=True, slots=True)
class Steps:
    """What is done to an image, each step safe to call from another thread."""

    load: Callable[[Any], Job]
    window: Callable[[Job, int], FloatMap]
    run: Callable[[FloatMap], Outputs]
    finish: Callable[[Job], Inspection]
    name: Callable[[Any], str]


def stream(steps: Steps, items: Iterable[Item], batch_size: int, workers: int = 1) -> Iterator[Inspection | Failed]:
    """Inspections in the order of the items; `workers` threads read images."""
    readers = ThreadPoolExecutor(max(1, workers), "blemish-read")
    ahead = ThreadPoolExecutor(1, "blemish-batch")
    behind = ThreadPoolExecutor(1, "blemish-decode")
    try:
        batches = _batches(steps, _loaded(steps, items, readers, workers), batch_size)
        following = ahead.submit(next, batches, None)
        waiting: deque[Job | Failed] = deque()
        ready = 0
        while (batch := following.result()) is not None:
            following = ahead.submit(next, batches, None)
            waiting.extend(batch.begun)
            _run(steps, batch, behind)
            # What was complete before this run has been decoded meanwhile.
            yield from _done(waiting, ready)
            ready = _complete(waiting)
        yield from _done(waiting, len(waiting))
    finally:
        for pool in (readers, ahead, behind):
            pool.shutdown(wait=False, cancel_futures=True)


def _loaded(steps: Steps, items: Iterable[Item], readers: ThreadPoolExecutor, workers: int) -> Iterator[Job | Failed]:
    """Items in order, read by a pool that looks a little ahead."""

    def load(item: Item) -> Job | Failed:
        try:
            return steps.load(item)
        except BlemishError as error:
            return Failed(steps.name(item), error)

    if workers <= 1:
        yield from map(load, items)
        return
    source = iter(items)
    pending = deque(readers.submit(load, item) for item in islice(source, workers))
    while pending:
        yield pending.popleft().result()
        pending.extend(readers.submit(load, item) for item in islice(source, 1))


def _batches(steps: Steps, jobs: Iterable[Job | Failed], batch_size: int) -> Iterator[Batch]:
    batch = Batch()
    for job in jobs:
        batch.begun.append(job)
        if isinstance(job, Failed):
            continue
        batch.held += job.image.nbytes
        job.missing = len(job.found.tiles)
        for index in range(job.missing):
            begin = time.perf_counter()
            try:
                window = steps.window(job, index)
            except BlemishError as error:
                job.failure = error
                break
            _count(job, "prepare", time.perf_counter() - begin)
            batch.windows.append(window)
            batch.places.append((job, index))
            if len(batch.windows) == batch_size:
                yield batch
                batch = Batch()
        if batch.held > MAX_BATCH_BYTES:
            yield batch
            batch = Batch()
    if batch.begun or batch.places:
        yield batch


def _run(steps: Steps, batch: Batch, behind: ThreadPoolExecutor) -> None:
    if not batch.windows:
        return
    begin = time.perf_counter()
    outputs = steps.run(np.stack(batch.windows))
    share = (time.perf_counter() - begin) / len(batch.windows)
    for row, (job, index) in enumerate(batch.places):
        job.found.add(index, outputs.row(row))
        _count(job, "network", share)
        job.missing -= 1
        if not job.missing:
            job.result = behind.submit(steps.finish, job)


def _complete(waiting: Iterable[Job | Failed]) -> int:
    """How many items at the head have passed the network."""
    count = 0
    for job in waiting:
        if isinstance(job, Job) and job.result is None and job.failure is None:
            break
        count += 1
    return count


def _done(waiting: deque[Job | Failed], count: int) -> Iterator[Inspection | Failed]:
    for _ in range(count):
        job = waiting.popleft()
        if isinstance(job, Failed):
            yield job
        elif job.failure is not None:
            yield Failed(job.source or "the image", job.failure)
        else:
            assert job.result is not None
            yield job.result.result()


def _count(job: Job, step: str, seconds: float) -> None:
    job.timings_ms[step] = job.timings_ms.get(step, 0.0) + 1000 * seconds
