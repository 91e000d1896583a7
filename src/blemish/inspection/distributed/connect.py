"""Connect to a Ray cluster, or start one on this machine for as long as the work lasts."""

import logging
import os
import re
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from blemish import errors
from blemish.errors import BlemishError, MissingExtraError, OptionError

LOCAL = "local"
REACH_S = 10.0  # for a connection to the cluster's port; Ray itself tries for minutes, also where nothing listens
_STORE_BYTES = 128 * 2**20  # of shared memory: no pixels pass through it
CONSOLE = "console"  # the name of the handler by which Ray Data writes to stderr


@contextmanager
def connected(address: str, cores: int | None = None) -> Iterator[Any]:
    """The module `ray`, connected to the cluster at `address` (HOST:PORT, "auto", or a session of this process).

    "local" starts a cluster on this machine with `cores`, by default all, and stops it at the end. Ray's own reports of
    usage are off, unless RAY_USAGE_STATS_ENABLED says otherwise. Raises MissingExtraError without Ray, OptionError
    where no cluster answers.
    """
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    os.environ.setdefault("RAY_BACKEND_LOG_LEVEL", "fatal")  # its other messages are for Ray's own developers
    try:
        import ray
        import ray.data
    except ImportError as error:
        raise MissingExtraError(f"{error.name or 'ray'} is not installed; pip install 'blemish[ray]'") from error
    if ray.is_initialized():  # by the program that calls this
        yield ray
        return
    quiet: dict[str, Any] = {"logging_level": logging.ERROR, "log_to_driver": False}
    try:
        if address == LOCAL:
            ray.init(address=LOCAL, num_cpus=cores, include_dashboard=False, object_store_memory=_STORE_BYTES, **quiet)
        else:
            _check_port(address)
            ray.init(address=address, **quiet)
    except Exception as error:  # Ray's errors here have no common type
        reason = " ".join(str(error).split())[:300]
        raise OptionError(
            f"no Ray cluster can be used at {address}: {reason}; start one with 'ray start --head', or say local"
        ) from error
    for handler in logging.getLogger("ray.data").handlers:
        if handler.get_name() == CONSOLE:  # what it shows with a traceback is raised as well
            handler.setLevel(logging.CRITICAL + 1)
    try:
        yield ray
    finally:
        ray.shutdown()


def _check_port(address: str) -> None:
    """OSError where nothing listens at HOST:PORT or ray://HOST:PORT; other addresses are left to Ray."""
    named = re.fullmatch(r"(?:ray://)?\[?([^/\[\]]+)\]?:(\d{1,5})", address)
    if named is not None:
        socket.create_connection((named[1], int(named[2])), REACH_S).close()


def count_places(ray: Any, cores: float, gpus: float) -> int:
    """Number of actors of `cores` and `gpus` that the cluster's machines can hold at a time."""
    places = 0
    for node in ray.nodes():
        if node["Alive"]:
            held = node["Resources"]
            limits = [held.get(name, 0) // own for name, own in (("CPU", cores), ("GPU", gpus)) if own > 0]
            places += int(min(limits, default=0))
    return places


def own_error(error: BaseException) -> BlemishError | None:
    """The error of this project that a task or an actor ended with; None where it was another."""
    seen: BaseException | None = error
    while seen is not None:
        cause = getattr(seen, "cause", None)  # of Ray's errors: what was raised in the other process
        if isinstance(cause, BaseException):
            seen = cause
        elif isinstance(seen, BlemishError):
            return seen
        else:
            seen = seen.__cause__ or seen.__context__
    # An actor that could not begin leaves the text of its traceback only.
    found = re.findall(r"^\s*blemish\.errors\.(\w+): (.+)$", str(error), re.MULTILINE)
    if not found:
        return None
    kind = getattr(errors, found[-1][0], None)
    return (kind if isinstance(kind, type) and issubclass(kind, BlemishError) else BlemishError)(found[-1][1])
