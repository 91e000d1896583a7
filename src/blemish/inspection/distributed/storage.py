"""Files in a folder that all machines see: local, on a network drive, or in an object store (any URL of fsspec).

A file is there as a whole or not at all: locally it is written beside its place and renamed, in an object store it
appears when its upload ends.
"""

import errno
import os
import shutil
import tempfile
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from blemish.errors import MissingExtraError, OptionError


def is_url(name: str) -> bool:
    return "://" in name


def open_filesystem(name: str) -> tuple[Any, str]:
    """The fsspec file system of a path or URL, and the path in it.

    Raises MissingExtraError where the library of that kind of URL is not installed, OptionError for an unknown kind.
    """
    import fsspec

    try:
        return fsspec.core.url_to_fs(name)  # type: ignore[no-any-return]
    except ImportError as error:
        raise MissingExtraError(f"{name}: {error} (pip install its package on every machine)") from error
    except ValueError as error:
        raise OptionError(f"{name}: {error}") from error


class Storage:
    """Files below one folder, by names such as "results/000001.parquet"."""

    def __init__(self, root: str) -> None:
        self.root = root
        self._files, self._folder = open_filesystem(root if is_url(root) else os.path.abspath(root))
        self._local = "file" in self._files.protocol

    def place(self, name: str) -> str:
        """The path of a file in its file system."""
        return f"{self._folder.rstrip('/')}/{name}"

    def names(self, folder: str) -> list[str]:
        """Names of the files of a folder, sorted; none where it does not exist."""
        self._files.invalidate_cache()
        try:
            found = self._files.ls(self.place(folder), detail=False)
        except FileNotFoundError:
            return []
        return sorted(name for path in found if not (name := path.rstrip("/").rpartition("/")[2]).startswith("."))

    def exists(self, name: str) -> bool:
        self._files.invalidate_cache()
        return bool(self._files.exists(self.place(name)))

    def read(self, name: str) -> bytes:
        return bytes(self._files.cat_file(self.place(name)))

    def open(self, name: str) -> Any:
        """A seekable binary stream, for reading."""
        return self._files.open(self.place(name), "rb")

    def write(self, name: str, content: bytes, new: bool = False) -> None:
        """Write a whole file; with `new`, FileExistsError where it exists (an object store cannot promise that two
        writers of the same moment notice each other)."""
        with tempfile.TemporaryDirectory() as folder:
            file = Path(folder) / "content"
            file.write_bytes(content)
            self.put(file, name, new)

    def put(self, file: Path, name: str, new: bool = False) -> None:
        """Copy a local file to its place, as a whole; `new` as for `write`."""
        if not self._local:
            if new and self.exists(name):
                raise FileExistsError(name)
            self._files.put_file(str(file), self.place(name))
            return
        target = Path(self.place(name))
        target.parent.mkdir(parents=True, exist_ok=True)
        partial = target.with_name(f".{target.name}.{uuid.uuid4().hex}.partial")
        try:
            with file.open("rb") as content, partial.open("wb") as stream:
                shutil.copyfileobj(content, stream)
                stream.flush()
                os.fsync(stream.fileno())
            if new:
                _link(partial, target)
            else:
                partial.replace(target)
        finally:
            partial.unlink(missing_ok=True)

    def remove(self, name: str) -> None:
        self._files.rm_file(self.place(name))

    @contextmanager
    def local_copy(self, name: str) -> Iterator[Path]:
        """The path of a file on this machine, for as long as the block lasts."""
        if self._local:
            yield Path(self.place(name))
            return
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / name.rpartition("/")[2]
            self._files.get_file(self.place(name), str(path))
            yield path


def _link(partial: Path, target: Path) -> None:
    """Give a file its name; unlike a rename, this never replaces another file. A drive without links is as an object
    store: two writers of the same moment do not notice each other."""
    try:
        os.link(partial, target)
    except OSError as error:
        if error.errno not in (errno.EPERM, errno.ENOTSUP, errno.ENOSYS):
            raise
        if target.exists():
            raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), str(target)) from error
        partial.replace(target)
