"""The plan of a distributed inspection, and its results.

OUT/BUNDLE/run.json            what the results depend on; BUNDLE is the beginning of the bundle's SHA-256
OUT/BUNDLE/bundle.blemish      the bundle
OUT/BUNDLE/inputs/N.json       the images of shard N, in order
OUT/BUNDLE/results/N.jsonl     an object for each of them, of the published schema and with the bundle's SHA-256
OUT/BUNDLE/results/N.parquet   the same rows; written last, so that a shard with this file is finished

An image belongs to one shard for good, and a shard's files are written as a whole. Whoever inspects a shard again, such
as a process that did not notice the end of its run, replaces it by the same rows: no image is ever counted twice.
"""

import hashlib
import json
import tempfile
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, fields
from itertools import islice
from pathlib import Path
from typing import Any

import pyarrow
from pyarrow import parquet

from blemish.errors import DataError, OptionError
from blemish.inspection.convert import to_dict
from blemish.inspection.distributed.arrow_schema import BUNDLE, inspection_schema
from blemish.inspection.distributed.storage import Storage
from blemish.inspection.result import Inspection, ReasonKind

RUN, BUNDLE_FILE = "run.json", "bundle.blemish"
INPUTS, RESULTS = "inputs", "results"
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

    An image that is named twice is taken once. Takes about 100 bytes of memory an image. Raises OptionError where
    another process plans at the same time.
    """
    numbers = _numbers(storage, INPUTS, ".json")
    known: set[bytes] = set()
    with ThreadPoolExecutor(_READERS) as readers:
        for names in readers.map(lambda number: read_inputs(storage, number), numbers):
            known.update(map(_digest, names))
    fresh = _unknown(sources, known)
    while names := list(islice(fresh, size)):
        number = numbers[-1] + 1 if numbers else 0
        try:
            storage.write(_name(INPUTS, number, ".json"), json.dumps(names).encode(), new=True)
        except FileExistsError as error:
            raise OptionError(f"another run lists its images in {storage.root}; wait for it") from error
        numbers.append(number)
    return ShardPlan(numbers, len(known))


def finished_shards(storage: Storage) -> set[int]:
    return set(_numbers(storage, RESULTS, ".parquet"))


def read_inputs(storage: Storage, number: int) -> list[str]:
    return list(json.loads(storage.read(_name(INPUTS, number, ".json"))))


def is_written(storage: Storage, number: int) -> bool:
    return storage.exists(_name(RESULTS, number, ".parquet"))


def read_counts(storage: Storage, numbers: Iterable[int]) -> ShardCounts:
    """The counts of finished shards together."""

    def read(number: int) -> ShardCounts:
        with storage.open(_name(RESULTS, number, ".parquet")) as stream:
            return ShardCounts(**json.loads(parquet.ParquetFile(stream).metadata.metadata[_COUNTS]))

    with ThreadPoolExecutor(_READERS) as readers:
        return sum(readers.map(read, numbers), ShardCounts())


def write_shard(storage: Storage, number: int, bundle: str, inspections: Iterable[Inspection]) -> ShardCounts:
    """Write the results of a shard as they come, and put the files in their place when all are there."""
    counts, schema = ShardCounts(), inspection_schema()
    with tempfile.TemporaryDirectory() as folder:
        lines, table = Path(folder) / "lines", Path(folder) / "table"
        with lines.open("wb") as stream, parquet.ParquetWriter(table, schema) as writer:
            rest = iter(inspections)
            while piece := list(islice(rest, _ROWS)):
                rows = [{BUNDLE: bundle, **to_dict(inspection, masks=False)} for inspection in piece]
                for row in rows:
                    stream.write(json.dumps(row, ensure_ascii=False).encode("utf-8", "backslashreplace") + b"\n")
                writer.write_table(pyarrow.Table.from_pylist(_as_text(rows), schema))
                counts = sum(map(_count, piece), counts)
            writer.add_key_value_metadata({_COUNTS: json.dumps(asdict(counts)).encode()})
        storage.put(lines, _name(RESULTS, number, ".jsonl"))
        storage.put(table, _name(RESULTS, number, ".parquet"))
    return counts


def _count(inspection: Inspection) -> ShardCounts:
    if any(reason.kind == ReasonKind.FAILED for reason in inspection.reasons):
        return ShardCounts(failed=1)
    return ShardCounts(**{{"pass": "passed"}.get(name := str(inspection.verdict), name): 1})


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
