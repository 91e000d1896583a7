"""Files that are complete or absent, and YAML or JSON as a checked model or a one-line error."""

import hashlib
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, BinaryIO, TypeVar

import yaml
from pydantic import BaseModel, ConfigDict, ValidationError

from blemish.errors import BlemishError, OptionError, unknown

Model = TypeVar("Model", bound=BaseModel)


class FrozenModel(BaseModel):
    """A model that knows all its fields and does not change."""

    model_config = ConfigDict(extra="forbid", frozen=True)


@contextmanager
def atomic_path(path: Path) -> Iterator[Path]:
    """A temporary path next to `path`, which replaces `path` when the block ends without an error.

    A reader finds the old file or the new one, never half of it; after an error nothing is left, and an OSError names
    `path`. A device or pipe, such as /dev/stdout, is never replaced: the path is then its own.
    """
    device = path.exists() and not path.is_file() and not path.is_dir()
    partial = path if device else path.with_name(f".{path.name[:200]}.{os.getpid()}.partial")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        yield partial
        if not device:
            with partial.open("rb") as stream:
                os.fsync(stream.fileno())
            partial.replace(path)
    except OSError as error:
        if error.errno is None or error.filename not in (None, str(partial)):
            raise
        raise OSError(error.errno, error.strerror, str(path)) from error  # the class follows from the number
    finally:
        if not device:
            with suppress(OSError):
                partial.unlink(missing_ok=True)


def write_atomic(path: Path, content: str | bytes) -> None:
    """Write a whole text (UTF-8) or binary file at once, making its folder where that is missing.

    Bytes of file names that are no UTF-8 stay as they are in a list of names (.txt); elsewhere they become
    escapes such as `\\udcf6`, which JSON and YAML read back.
    """
    if isinstance(content, str):
        content = content.encode("utf-8", "surrogateescape" if path.suffix == ".txt" else "backslashreplace")
    with atomic_path(path) as partial:
        partial.write_bytes(content)


def append_whole(stream: BinaryIO, data: bytes, path: Path, sync: bool = False) -> None:
    """Write all of the bytes to an unbuffered stream, or none: half a line would damage the next one.

    With `sync` they are on the disk when this returns. An OSError, as of a full disk, names `path`.
    """
    start = stream.tell() if stream.seekable() else None
    try:
        while data:
            data = data[stream.write(data) :]
        if sync:
            os.fsync(stream.fileno())
    except OSError as error:
        if start is not None:
            with suppress(OSError):  # of a device
                stream.truncate(start)
                stream.seek(start)
        raise OSError(error.errno, error.strerror, str(path)) from error


def file_sha256(path: Path) -> str:
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


class _GivenTwiceError(yaml.YAMLError):
    """Holds the key that a mapping has twice."""


class _UniqueKeyLoader(yaml.SafeLoader):
    """YAML takes the last of two equal keys in silence; here that is an error."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        keys = [(key.tag, key.value) for key, _ in node.value if isinstance(key, yaml.ScalarNode)]
        for number, key in enumerate(keys):
            if key in keys[:number]:
                raise _GivenTwiceError(key[1])
        return super().construct_mapping(node, deep)


def load_yaml(path: Path, name: str, error_type: type[BlemishError] = OptionError) -> Any:
    """The content of a YAML or JSON file; `error_type`, one line beginning with `name`, where it cannot be read."""
    try:
        return yaml.load(path.read_text(encoding="utf-8"), _UniqueKeyLoader)
    except OSError as error:
        raise error_type(f"{name} cannot be read: {error.strerror or error}") from error
    except _GivenTwiceError as error:
        raise error_type(f"{name} gives '{error}' twice; keep one of them") from error
    except (UnicodeDecodeError, yaml.YAMLError, RecursionError) as error:
        raise error_type(f"{name} is neither YAML nor JSON: {' '.join(str(error).split())[:200]}") from error


def validate(
    model: type[Model], content: Any, name: str, error_type: type[BlemishError] = OptionError, context: Any = None
) -> Model:
    """`content` as a model; `error_type` names the first problem: `name`, the field, the reason."""
    try:
        return model.model_validate(content, context=context)
    except ValidationError as error:
        first = error.errors()[0]
        if first["type"] == "extra_forbidden" and len(first["loc"]) == 1:
            raise error_type(f"{name}: {unknown('field', str(first['loc'][0]), model.model_fields)}") from error
        raise error_type(f"{name}: {first_problem(error)}") from error


def first_problem(error: ValidationError) -> str:
    """The first problem that pydantic found, as `field.name: what is wrong`."""
    first = error.errors()[0]
    where = ".".join(str(step) for step in first["loc"])
    message = first["msg"].removeprefix("Value error, ")
    message = message[:1].lower() + message[1:]
    return f"{where}: {message}" if where else message
