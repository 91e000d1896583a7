"""Parts from watched folders: each runs in a thread of its own."""

import logging
import os
import threading
import time
import uuid
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from functools import partial
from pathlib import Path

from blemish.errors import BlemishError
from blemish.imaging.read import IMAGE_SUFFIXES
from blemish.station.image_store import DiskFullError
from blemish.station.service import InspectionService
from blemish.station.sources import POLL_S, RETRY_S, distinct_name, explain_loss, is_ready, submit_stream
from blemish.station.tickets import NotAnsweredError

log = logging.getLogger("blemish.station")
WORKING, DONE, FAILED = "working", "done", "failed"
PRUNE_S = 600.0
SETTLED_S = 0.5  # a file unchanged for so long is complete; better: write it elsewhere, then rename it into the folder
_MAX_NAME = 220  # bytes, so that a key fits before it
FOLDER_SILENT_S = 5.0  # besides the time of an answer: a share that hangs raises no error


def watch_folder(service: InspectionService, folder: Path, stop: threading.Event) -> None:
    """Inspect image files that appear in `folder`, and move them to `done` or `failed` there.

    A file is first moved to `working`, under a name with a key of its own: after a kill it is still there, and by its
    key the record shows whether it was inspected already.
    """
    folders = [str(path) for path in service.settings.watch]
    source = f"folder {distinct_name(str(folder), folders, lambda path: Path(path).name)}"
    service.sources.lost(source, "it was not read yet")
    settled, prune_at, made = SettledFiles(folder), 0.0, False
    silent_s = FOLDER_SILENT_S + service.settings.time_limit_s
    with ThreadPoolExecutor(service.settings.batch_size, "blemish-folder") as pool:
        while not stop.is_set():
            try:
                for name in () if made else (WORKING, DONE, FAILED):  # once: a lost share must not be made anew
                    (folder / name).mkdir(parents=True, exist_ok=True)
                made = True
                found = settled.find()
                (folder / WORKING).stat()  # raises where the folder is lost, even if there is no recipe
                if is_ready(service):
                    for path in found:
                        _take(folder, path)
                    waiting = sorted((folder / WORKING).iterdir())
                    inspect = partial(_inspect_file, service, folder, stop)
                    for _ in pool.map(inspect, waiting):
                        service.sources.works(source, silent_s)
                if service.settings.done_days is not None and time.monotonic() >= prune_at:
                    prune_done(folder, service.settings.done_days)
                    prune_at = time.monotonic() + PRUNE_S
                service.sources.works(source, silent_s)
            except Exception as error:
                service.sources.lost(source, explain_loss(error))
                log.exception("folder %s: files without an answer stay in '%s' and are retried", folder, WORKING)
                stop.wait(RETRY_S)
            stop.wait(POLL_S)


def _take(folder: Path, path: Path) -> None:
    """Move a file to `working`; its name is the part's id, so it is never cut."""
    key = uuid.uuid4().hex
    if len(os.fsencode(path.name)) > _MAX_NAME:
        _refuse(folder, path, f"{key}{path.suffix}", f"the name {path.name} is too long")
    else:
        path.rename(folder / WORKING / f"{key}__{path.name}")


def _refuse(folder: Path, path: Path, name: str, problem: str) -> None:
    log.warning("%s: %s", name, problem)
    (folder / FAILED / f"{name}.txt").write_text(f"{problem}\n", encoding="utf-8")
    _move(path, folder / FAILED / name)


class SettledFiles:
    """Finds image files that are no longer written to: those unchanged between two looks, whatever their clocks say."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._seen: dict[Path, tuple[tuple[int, int], float]] = {}  # size and time of change, and since when

    def find(self) -> list[Path]:
        """Settled files, oldest first."""
        look, seen, settled = time.monotonic(), {}, []
        for path in self._folder.iterdir():
            if path.suffix.lower() not in IMAGE_SUFFIXES or path.name.startswith(".") or not path.is_file():
                continue
            try:
                stat = path.stat()
            except FileNotFoundError:  # renamed or deleted meanwhile
                continue
            state = stat.st_size, stat.st_mtime_ns
            before, since = self._seen.get(path, (None, look))
            seen[path] = state, since if state == before else look
            if state == before and look - since >= SETTLED_S:
                settled.append((stat.st_mtime_ns, path))
        self._seen = seen
        return [path for _, path in sorted(settled)]


def prune_done(folder: Path, days: float) -> None:
    """Delete files that were inspected long ago; the station's own copies are kept by its own limits."""
    for path in (folder / DONE).iterdir():
        with suppress(OSError):
            if time.time() - path.stat().st_ctime > days * 86400:  # of the move to this folder
                path.unlink()


def _inspect_file(service: InspectionService, folder: Path, stop: threading.Event, path: Path) -> None:
    """Inspect a file of `working`; it stays there until an answer is recorded."""
    if stop.is_set():
        return
    key, _, name = path.name.partition("__")
    try:
        with path.open("rb") as stream:
            answer = submit_stream(service, stream, "folder", stop, part_id=Path(name).stem, key=f"folder-{key}")
    except (NotAnsweredError, DiskFullError):
        raise
    except BlemishError as error:
        _refuse(folder, path, name, str(error))
        return
    if answer is not None:
        _move(path, folder / (FAILED if answer.error else DONE) / name)


def _move(path: Path, target: Path) -> None:
    """Move a file, never over another of the same name."""
    while target.exists():
        target = target.with_name(f"{target.stem}-{uuid.uuid4().hex[:8]}{target.suffix}")
    path.rename(target)
