"""The plan of a distributed inspection, and its results.

OUT/BUNDLE/run.json            what the results depend on; BUNDLE is the beginning of the bundle's SHA-256
OUT/BUNDLE/bundle.blemish      the bundle
OUT/BUNDLE/inputs/N.json       the images of shard N, in order, with size and time of change of those that are files
OUT/BUNDLE/results/N.jsonl     an object for each of them, of the published schema and with the bundle's SHA-256
OUT/BUNDLE/results/N.parquet   the same rows; written last, so that a shard with this file is finished
OUT/BUNDLE/again/N.json        images of a finished shard that are inspected again, since they changed or failed

An image belongs to one shard for good, and a shard's files are written as a whole. Whoever inspects a shard again, such
as a process that did not notice the end of its run, replaces it by the same rows: no image is ever counted twice.
"""

import hashlib
import json
import os
import tempfile
from collections.abc import Collection, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import asdict, dataclass, fields
from itertools import chain, islice
from pathlib import Path
from typing import Any

import pyarrow
from pyarrow import parquet

from blemish.errors import DataError, OptionError
from blemish.inspection.convert import to_dict
from blemish.inspection.distributed.arrow_schema import BUNDLE, inspection_schema
from blemish.inspection.distributed.storage import Storage, is_url
from blemish.inspection.result import Inspection, ReasonKind

RUN, BUNDLE_FILE = "run.json", "bundle.blemish"
INPUTS, RESULTS, AGAIN = "inputs", "results", "again"
Stamp = tuple[int, int] | None  # size and time of change (ns) of a file; None: there is none, or it is a URL
_ROWS = 256  # of a Parquet row group: all that is held in memory of a shard's results
_READERS = 16  # threads that wait for the storage
_COUNTS = b"blemish_counts"


@dataclass(frozen=True, slots=True)
class ShardCounts:
    """Number of images of one shard or of several, by verdict; `failed` could not be inspected."""

    passed: int = 0
    review: int = 0
    reject: int = 0
    failed: int = 0

    def __add__(self, other: "ShardCounts") -> "ShardCounts":
        return ShardCounts(*(getattr(self, f.name) + getattr(other, f.name) for f in fields(self)))

    @property
    def images(self) -> int:
        return self.passed + self.review + self.reject + self.failed


@dataclass(frozen=True, slots=True)
class ShardPlan:
    shards: list[int]
    images: int  # in all of them
    kept: int = 0  # of shards with images that are inspected again, those whose results remain


def check_run(storage: Storage, settings: dict[str, Any]) -> None:
    """Note what the results depend on; OptionError where the folder holds results of other settings."""
    try:
        storage.write(RUN, json.dumps(settings, indent=1, sort_keys=True).encode(), new=True)
        return
    except FileExistsError:
        known = json.loads(storage.read(RUN))
    for name in sorted(settings.keys() | known.keys()):
        if settings.get(name) != known.get(name):
            raise OptionError(
                f"{storage.root} holds results of this bundle with {name} {_short(known.get(name))}, not "
                f"{_short(settings.get(name))}; choose another --out"
            )


def plan_shards(storage: Storage, sources: Iterable[str], size: int) -> ShardPlan:
    """Put the images that are in no shard yet into new ones of `size` images; all shards, old and new.

    Images of finished shards that failed, or are files that changed since, are inspected again; a file that is gone
    keeps its result, and so does a URL. An image that is named twice is taken once. Takes about 100 bytes of memory an
    image. Raises OptionError where another process plans at the same time.
    """
    numbers = _numbers(storage, INPUTS, ".json")
    known: set[bytes] = set()
    written, kept = set(_numbers(storage, RESULTS, ".parquet")), 0
    with ThreadPoolExecutor(_READERS) as readers:
        for names in readers.map(lambda number: read_inputs(storage, number), numbers):
            known.update(map(_digest, names))
        kept = sum(readers.map(lambda number: _renew(storage, number), written.intersection(numbers)))
    fresh = _unknown(sources, known)
    while names := list(islice(fresh, size)):
        number = numbers[-1] + 1 if numbers else 0
        try:
            storage.write(_name(INPUTS, number, ".json"), _as_inputs(names, list(map(_stamp, names))), new=True)
        except FileExistsError as error:
            raise OptionError(f"another run lists its images in {storage.root}; wait for it") from error
        numbers.append(number)
    return ShardPlan(numbers, len(known), kept)


def finished_shards(storage: Storage) -> set[int]:
    return set(_numbers(storage, RESULTS, ".parquet")).difference(_numbers(storage, AGAIN, ".json"))


def read_inputs(storage: Storage, number: int) -> list[str]:
    return _read_stamped(storage, number)[0]


def read_again(storage: Storage, number: int) -> list[str] | None:
    """The images of a shard with results that are inspected again; None where all are inspected."""
    name = _name(AGAIN, number, ".json")
    if not (storage.exists(name) and storage.exists(_name(RESULTS, number, ".parquet"))):
        return None
    return list(json.loads(storage.read(name)))


def is_written(storage: Storage, number: int) -> bool:
    return storage.exists(_name(RESULTS, number, ".parquet")) and not storage.exists(_name(AGAIN, number, ".json"))


def read_counts(storage: Storage, numbers: Iterable[int]) -> ShardCounts:
    """The counts of finished shards together."""

    def read(number: int) -> ShardCounts:
        with storage.open(_name(RESULTS, number, ".parquet")) as stream:
            return ShardCounts(**json.loads(parquet.ParquetFile(stream).metadata.metadata[_COUNTS]))

    with ThreadPoolExecutor(_READERS) as readers:
        return sum(readers.map(read, numbers), ShardCounts())


def write_shard(
    storage: Storage, number: int, bundle: str, inspections: Iterable[Inspection], again: Collection[str] | None = None
) -> ShardCounts:
    """Write the results of a shard as they come, and put the files in their place when all are there.

    With `again`, the images that were inspected again, the results of the others remain.
    """
    counts, schema = ShardCounts(), inspection_schema()
    fresh = ({BUNDLE: bundle, **to_dict(inspection, masks=False)} for inspection in inspections)
    stale = set(again or ())
    remaining = () if again is None else (row for row in _read_rows(storage, number) if row["source"] not in stale)
    with tempfile.TemporaryDirectory() as folder:
        lines, table = Path(folder) / "lines", Path(folder) / "table"
        with lines.open("wb") as stream, parquet.ParquetWriter(table, schema) as writer:
            rest = chain(remaining, fresh)
            while rows := list(islice(rest, _ROWS)):
                for row in rows:
                    stream.write(json.dumps(row, ensure_ascii=False).encode("utf-8", "backslashreplace") + b"\n")
                writer.write_table(pyarrow.Table.from_pylist(_as_text(rows), schema))
                counts = sum(map(_count, rows), counts)
            writer.add_key_value_metadata({_COUNTS: json.dumps(asdict(counts)).encode()})
        storage.put(lines, _name(RESULTS, number, ".jsonl"))
        storage.put(table, _name(RESULTS, number, ".parquet"))
    if again is not None:
        with suppress(OSError):  # another process that inspects the same shard has removed it
            storage.remove(_name(AGAIN, number, ".json"))
    return counts


def _renew(storage: Storage, number: int) -> int:
    """Note which images of a shard with results are to be inspected again; the number of the others, if there are any
    of these, else 0."""
    names, stamps = _read_stamped(storage, number)
    now = [_stamp(name) for name in names[: len(stamps)]]  # none where no stamps are known
    new = [own or old for old, own in zip(stamps, now, strict=True)]
    stale = set(read_again(storage, number) or ())  # of a run that was interrupted
    stale |= {name for name, old, own in zip(names, stamps, new, strict=False) if own != old}
    if read_counts(storage, [number]).failed:
        stale |= {row["source"] for row in _read_rows(storage, number) if _has_failed(row)}
    again = [name for name in names if name in stale]
    if not again:
        return 0
    storage.write(_name(AGAIN, number, ".json"), json.dumps(again).encode())
    if new != stamps:
        storage.write(_name(INPUTS, number, ".json"), _as_inputs(names, new))
    return len(names) - len(again)


def _read_rows(storage: Storage, number: int) -> Iterator[dict[str, Any]]:
    with storage.open(_name(RESULTS, number, ".jsonl")) as stream:
        yield from map(json.loads, stream)


def _read_stamped(storage: Storage, number: int) -> tuple[list[str], list[Stamp]]:
    """The images of a shard and their stamps; none of an older plan, which is a list of the images."""
    content = json.loads(storage.read(_name(INPUTS, number, ".json")))
    if isinstance(content, list):
        return content, []
    return content["images"], [None if own is None else (own[0], own[1]) for own in content["stamps"]]


def _as_inputs(names: list[str], stamps: list[Stamp]) -> bytes:
    return json.dumps({"images": names, "stamps": stamps}).encode()


def _stamp(name: str) -> Stamp:
    if is_url(name):
        return None
    try:
        found = os.stat(name)
    except OSError:
        return None
    return found.st_size, found.st_mtime_ns


def _has_failed(row: dict[str, Any]) -> bool:
    return any(reason["kind"] == ReasonKind.FAILED for reason in row["reasons"])


def _count(row: dict[str, Any]) -> ShardCounts:
    if _has_failed(row):
        return ShardCounts(failed=1)
    return ShardCounts(**{{"pass": "passed"}.get(name := str(row["verdict"]), name): 1})


def _unknown(sources: Iterable[str], known: set[bytes]) -> Iterator[str]:
    for name in sources:
        if (digest := _digest(name)) not in known:
            known.add(digest)
            yield name


def _digest(name: str) -> bytes:
    return hashlib.blake2b(name.encode("utf-8", "surrogateescape"), digest_size=16).digest()


def _name(folder: str, number: int, suffix: str) -> str:
    return f"{folder}/{number:08}{suffix}"


def _numbers(storage: Storage, folder: str, suffix: str) -> list[int]:
    names = [name.removesuffix(suffix) for name in storage.names(folder) if name.endswith(suffix)]
    for name in names:
        if not name.isdecimal():
            raise DataError(f"{storage.root}/{folder} holds {name}{suffix}, which is no shard; move it elsewhere")
    return sorted(map(int, names))


def _as_text(value: Any) -> Any:
    """Bytes of file names that are no UTF-8 as escapes such as `\\udcf6`: Parquet holds UTF-8 only."""
    if isinstance(value, str):
        return value if value.isascii() else value.encode("utf-8", "backslashreplace").decode()
    if isinstance(value, list):
        return [_as_text(own) for own in value]
    return {key: _as_text(own) for key, own in value.items()} if isinstance(value, dict) else value


def _short(value: Any) -> str:
    text = json.dumps(value)
    return text if len(text) <= 60 else f"{text[:57]}..."
