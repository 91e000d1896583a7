"""One actor of a distributed inspection: it opens the bundle once and inspects shard after shard."""

import math
import tempfile
import uuid
from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from itertools import islice
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
from numpy.typing import NDArray

import blemish
from blemish.errors import OptionError
from blemish.inspection.distributed.shards import (
    BUNDLE_FILE,
    ShardCounts,
    is_written,
    read_again,
    read_counts,
    read_inputs,
    write_shard,
)
from blemish.inspection.distributed.storage import Storage, is_url, open_filesystem
from blemish.inspection.inspector import Inspector
from blemish.inspection.pipeline import FailedInspection
from blemish.inspection.result import Inspection, Reason, ReasonKind, Verdict

SHARD = "shard"
ATTEMPTS, SUSPECTS = "attempts", "suspects"
MAX_ATTEMPTS = 2  # at a shard as a stream of images; then they are inspected one by one
MAX_DEATHS = 2  # of processes that inspected one image by itself; then it counts as failed
DIED = "the process that inspected it ended {deaths} times"


@dataclass(frozen=True, slots=True)
class ActorSettings:
    """What an actor needs to know; `inspector` are arguments of `Inspector.open`, `template` (H, W, C) is the
    reference image of all images."""

    root: str  # of the storage
    bundle_sha256: str
    version: str  # of the driver's blemish
    inspector: dict[str, Any]
    workers: int = 1
    template: NDArray[Any] | None = None


class ShardInspector:
    """Inspects the shards whose numbers it is called with; a class for `Dataset.map_batches`."""

    def __init__(self, settings: ActorSettings) -> None:
        if blemish.__version__ != settings.version:
            raise OptionError(
                f"a machine of the cluster has blemish {blemish.__version__}, this one {settings.version}; install the "
                "same version on all"
            )
        self._settings, self._storage = settings, Storage(settings.root)
        with self._storage.local_copy(BUNDLE_FILE) as bundle:
            self._inspector = Inspector.open(bundle, **settings.inspector)

    def __call__(self, batch: dict[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
        """(N,) numbers of shards; the same and (N,) counts by verdict."""
        counts = [asdict(self.inspect_shard(int(number))) for number in batch[SHARD]]
        return {SHARD: batch[SHARD], **{name: np.array([own[name] for own in counts]) for name in counts[0]}}

    def inspect_shard(self, number: int) -> ShardCounts:
        """Inspect one shard and write its results, unless they are there."""
        storage = self._storage
        if is_written(storage, number):
            return read_counts(storage, [number])
        attempt = f"{ATTEMPTS}/{number:08}"
        before = [name for name in storage.names(ATTEMPTS) if name.startswith(f"{number:08}-")]
        storage.write(f"{attempt}-{uuid.uuid4().hex}", b"")
        again = read_again(storage, number)
        sources = read_inputs(storage, number) if again is None else again
        careful = len(before) >= MAX_ATTEMPTS
        inspections = self._inspect_singly(number, sources) if careful else self._inspect_stream(sources)
        counts = write_shard(storage, number, self._settings.bundle_sha256, inspections, again)
        for folder in (ATTEMPTS, SUSPECTS):
            for name in storage.names(folder):
                if name.startswith(f"{number:08}-"):
                    with suppress(OSError):  # another process that inspects the same shard has removed it
                        storage.remove(f"{folder}/{name}")
        return counts

    def _inspect_singly(self, number: int, sources: list[str]) -> Iterator[Inspection]:
        """One image at a time, noting each before it begins: one that ends its process is found by what is left of it,
        such as one on which a decoder crashes, or that takes more memory than there is."""
        for index, source in enumerate(sources):
            mark = f"{number:08}-{index:08}-"
            deaths = sum(name.startswith(mark) for name in self._storage.names(SUSPECTS))
            if deaths >= MAX_DEATHS:
                yield failed_inspection(source, DIED.format(deaths=deaths))
                continue
            noted = f"{SUSPECTS}/{mark}{uuid.uuid4().hex}"
            self._storage.write(noted, b"")
            yield from self._inspect_stream([source])
            self._storage.remove(noted)

    def _inspect_stream(self, sources: Iterable[str]) -> Iterator[Inspection]:
        with tempfile.TemporaryDirectory() as folder:
            copies = LocalCopies(sources, Path(folder), ahead=2 * self._inspector.batch_size)
            stream = self._inspector.inspect(
                copies, template=self._settings.template, on_error="report", workers=self._settings.workers
            )
            for result in stream:
                source, path = copies.taken.popleft()
                yield _of_source(result, source, path)
                if is_url(source):
                    path.unlink(missing_ok=True)
            yield from copies.failed


class LocalCopies:
    """Paths on this machine of images, which are fetched a few ahead; iterate over it once.

    `taken` are the sources with their paths, in the order in which they were given out, `failed` those that could not
    be fetched.
    """

    def __init__(self, sources: Iterable[str], folder: Path, ahead: int) -> None:
        self._sources, self._folder, self._ahead = sources, folder, ahead
        self.taken: deque[tuple[str, Path]] = deque()
        self.failed: list[Inspection] = []

    def __iter__(self) -> Iterator[Path]:
        rest = enumerate(self._sources)
        with ThreadPoolExecutor(8, "blemish-fetch") as pool:
            waiting = deque((source, self._begin(pool, number, source)) for number, source in islice(rest, self._ahead))
            while waiting:
                source, copy = waiting.popleft()
                waiting.extend((own, self._begin(pool, number, own)) for number, own in islice(rest, 1))
                try:
                    path = copy if isinstance(copy, Path) else copy.result()
                except Exception as error:  # whatever the storage raises, the other images are inspected
                    reason = " ".join(str(error).split())[:200] or type(error).__name__
                    self.failed.append(failed_inspection(source, f"cannot read image {source}: {reason}"))
                    continue
                self.taken.append((source, path))
                yield path

    def _begin(self, pool: ThreadPoolExecutor, number: int, source: str) -> "Path | Future[Path]":
        if not is_url(source):
            return Path(source)
        return pool.submit(_fetch, source, self._folder / f"{number}{PurePosixPath(source).suffix[:8]}")


def failed_inspection(source: str, message: str) -> Inspection:
    """A row for an image without an inspection."""
    reason = Reason(ReasonKind.FAILED, Verdict.REVIEW, detail=message)
    return Inspection(Verdict.REVIEW, "unknown", math.nan, [], (0, 0), reasons=[reason], source=source)


def _fetch(source: str, path: Path) -> Path:
    files, name = open_filesystem(source)
    files.get_file(name, str(path))
    return path


def _of_source(result: Inspection | FailedInspection, source: str, path: Path) -> Inspection:
    if isinstance(result, FailedInspection):
        return failed_inspection(source, result.message.replace(str(path), source))
    return replace(result, source=source)
