"""Images of paths, folders, patterns, URLs and lists in CSV or Parquet files, one after another.

Lists are read piece by piece: one of any length takes no more memory than one of its pieces.
"""

import os
from collections.abc import Iterable, Iterator
from glob import glob, has_magic
from pathlib import Path, PurePosixPath
from typing import Any

from blemish.dataset.image_files import list_images
from blemish.errors import DataError
from blemish.imaging.read import IMAGE_SUFFIXES
from blemish.inspection.distributed.storage import is_url, open_filesystem

COLUMNS = ("image", "path", "source", "url")  # of a list, the first that it has
LIST_SUFFIXES = (".csv", ".parquet")
_PIECE = 65_536  # rows of a Parquet list that are read at once


def list_sources(sources: Iterable[str]) -> Iterator[str]:
    """Absolute paths and URLs of the images that `sources` name, in their order; some may come twice.

    A source is an image, a folder with all below it, a pattern, or a CSV or Parquet file with a column of COLUMNS;
    each is a path or a URL. A path in a list is relative to the list's folder. An image that does not exist is listed:
    its inspection fails. Raises DataError for a list that cannot be read.
    """
    for source in sources:
        yield from _list_url(source) if is_url(source) else _list_local(source)


def _list_local(source: str) -> Iterator[str]:
    path = Path(os.path.abspath(source))
    if path.is_dir():
        yield from map(str, list_images(path, deep=True))
    elif not path.exists() and has_magic(source):
        for match in sorted(glob(source, recursive=True)):
            yield from _list_local(match)
    elif path.suffix.lower() in LIST_SUFFIXES:
        yield from (name if is_url(name) else os.path.join(path.parent, name) for name in _read_list(str(path)))
    else:
        yield str(path)


def _list_url(source: str) -> Iterator[str]:
    if PurePosixPath(source).suffix.lower() in LIST_SUFFIXES and not has_magic(source):
        folder = source.rpartition("/")[0]
        for name in _read_list(source):
            yield name if is_url(name) or os.path.isabs(name) else f"{folder}/{name}"
        return
    if source.startswith(("http://", "https://")):  # these name one file each, "?" and all
        yield source
        return
    files, path = open_filesystem(source)
    if has_magic(path):
        for match in sorted(files.glob(path)):
            if not match.rpartition("/")[2].startswith("."):  # as in a local pattern
                yield from _list_url(files.unstrip_protocol(match))
    elif files.isdir(path):
        names = sorted(files.find(path))
        yield from (files.unstrip_protocol(name) for name in names if _is_image(name))
    else:
        yield source


def _is_image(name: str) -> bool:
    path = PurePosixPath(name)
    return path.suffix.lower() in IMAGE_SUFFIXES and not path.name.startswith(".")


def _read_list(source: str) -> Iterator[str]:
    import pyarrow

    files, path = open_filesystem(source)
    try:
        with files.open(path, "rb") as stream:
            for names in _read_parquet(stream) if path.lower().endswith(".parquet") else _read_csv(stream):
                yield from (name for name in names.to_pylist() if name)
    except (OSError, ValueError, pyarrow.ArrowException) as error:
        reason = " ".join(str(error).split())[:200]
        raise DataError(f"the list {source} cannot be read: {reason}") from error


def _read_parquet(stream: Any) -> Iterator[Any]:
    from pyarrow import parquet

    file = parquet.ParquetFile(stream)
    column = _find_column(file.schema_arrow.names)
    for batch in file.iter_batches(_PIECE, columns=[column]):
        yield batch.column(0)


def _read_csv(stream: Any) -> Iterator[Any]:
    import pyarrow
    from pyarrow import csv

    header = stream.readline()
    stream.seek(0)
    names = csv.read_csv(pyarrow.BufferReader(header)).column_names
    column = _find_column(names)
    convert = csv.ConvertOptions(include_columns=[column], column_types={column: pyarrow.string()})
    for batch in csv.open_csv(stream, convert_options=convert):
        yield batch.column(0)


def _find_column(names: list[str]) -> str:
    found = next((name for name in COLUMNS if name in names), None)
    if found is None:
        raise ValueError(f"it has the columns {', '.join(names)}; name one of them {', '.join(COLUMNS)}")
    return found
