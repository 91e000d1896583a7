"""Trainings and comparisons in the background, one at a time: each a process that runs commands anybody could type."""

import contextlib
import json
import logging
import os
import re
import signal
import subprocess
import sys
import threading
import uuid
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any, Literal

from blemish.dataset.write import write_whole
from blemish.errors import BlemishError, DataError
from blemish.station.models import now

log = logging.getLogger("blemish.station")
State = Literal["running", "done", "failed", "cancelled", "interrupted"]
LINES = 400  # of a job's output that are kept in sight
NICE = 10  # the line's inspections go first
END_S = 10.0  # from asking a process to end to killing it
_ESCAPES = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")
_RAIL = "\N{BOX DRAWINGS HEAVY HORIZONTAL}"  # of a progress bar
_EPOCHS = re.compile(r"Epoch (\d+)/(\d+)\D.*?\b(\d+)/(\d+) ")
_PERCENT = re.compile(r"\b(\d+)%")


class BusyError(BlemishError):
    """Another job is running."""


@dataclass
class Job:
    folder: Path
    title: str
    who: str
    commands: list[list[str]]  # arguments of `blemish`, one command after the other
    px_per_mm: float | None = None  # of the data; a bundle that bears no scale is promoted with it
    started: datetime = field(default_factory=now)
    ended: datetime | None = None
    state: State = "running"
    at: int = 0  # which of the commands
    progress: float | None = None  # of that command
    bar: str = ""
    lines: deque[str] = field(default_factory=lambda: deque(maxlen=LINES))

    @property
    def id(self) -> str:
        return self.folder.name

    @property
    def bundles(self) -> dict[str, Path]:
        """What a job that is done may be promoted to, by name; of a comparison its choice comes first."""
        if self.state != "done":
            return {}
        run = self.folder / "run"
        return {path.stem: path for path in [*sorted(run.glob("*.blemish")), *sorted(run.glob("runs/*/*.blemish"))]}

    @property
    def report(self) -> Path | None:
        """The page of the whole job, not that of one of the methods that it compared."""
        found = sorted(self.folder.glob("**/*.html"), key=lambda path: (len(path.parts), path))
        return found[0] if found else None

    def save(self) -> None:
        kept: dict[str, Any] = {"title": self.title, "who": self.who, "commands": self.commands, "state": self.state}
        kept["px_per_mm"] = self.px_per_mm
        times = {"started": self.started.isoformat(), "ended": self.ended.isoformat() if self.ended else None}
        (self.folder / "log.txt").write_text("\n".join(self.lines), encoding="utf-8")
        write_whole(self.folder / "job.json", json.dumps({**kept, **times}))


class Jobs:
    """The jobs of a station, each in a folder below `folder`; they end with the station."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder = folder.resolve()  # its processes run in folders of their own
        self._lock = threading.Lock()
        self._jobs = {job.id: job for job in _known(folder)}
        self._process: subprocess.Popen[bytes] | None = None
        self._thread: threading.Thread | None = None

    def all(self) -> list[Job]:
        return sorted(self._jobs.values(), key=lambda job: job.started, reverse=True)

    def get(self, job_id: str) -> Job | None:
        return self._jobs.get(job_id)

    def start(self, title: str, commands: Sequence[Sequence[str]], who: str, px_per_mm: float | None = None) -> Job:
        """Begin; "{folder}" in an argument is the job's own folder. Raises BusyError while another one runs."""
        with self._lock:
            if any(job.state == "running" for job in self._jobs.values()):
                raise BusyError("another training is running; wait for it, or cancel it")
            folder = self._folder / f"{now():%Y%m%d-%H%M%S}-{uuid.uuid4().hex[:6]}"
            folder.mkdir(parents=True)
            filled = [[part.replace("{folder}", str(folder)) for part in command] for command in commands]
            job = self._jobs[folder.name] = Job(folder, title, who, filled, px_per_mm)
            job.save()
            self._thread = threading.Thread(target=self._run, args=(job,), name="blemish-job", daemon=True)
            self._thread.start()
            return job

    def cancel(self, job_id: str, state: State = "cancelled") -> None:
        """End a running job; one that has ended stays as it is."""
        with self._lock:
            job = self._jobs.get(job_id)
            if job is None or job.state != "running":
                return
            job.state = state
            process = self._process
        if process is not None:
            _end(process)

    def stop(self) -> None:
        for job in self.all():
            self.cancel(job.id, "interrupted")
        if self._thread is not None:
            self._thread.join(timeout=2 * END_S)

    def _run(self, job: Job) -> None:
        try:
            succeeded = all(self._command(job, index) for index in range(len(job.commands)))
        except Exception:
            log.exception("job %s", job.id)
            succeeded = False
        with self._lock:
            if job.state == "running":
                job.state = "done" if succeeded else "failed"
            job.ended, self._process = now(), None
            with contextlib.suppress(OSError):
                job.save()

    def _command(self, job: Job, index: int) -> bool:
        with self._lock:
            if job.state != "running":
                return False
            job.at, job.progress, job.bar = index, None, ""
            process = self._process = _start(job.commands[index], job.folder)
        assert process.stdout is not None
        part = ""
        while chunk := os.read(process.stdout.fileno(), 65536):
            *whole, part = re.split(r"[\r\n]+", part + _ESCAPES.sub("", chunk.decode("utf-8", "replace")))
            for line in whole:
                _take_line(job, line.rstrip())
        return process.wait() == 0


def _take_line(job: Job, line: str) -> None:
    """A line of output; those that are drawn over and over tell of progress, and are not kept."""
    if _RAIL in line:
        job.bar, job.progress = line.strip(), _progress(line)
    elif line.strip():
        job.lines.append(line)


def _progress(line: str) -> float | None:
    epochs, percent = _EPOCHS.search(line), _PERCENT.search(line)
    if epochs is not None:
        epoch, last, step, steps = map(int, epochs.groups())
        return min(1.0, (epoch + step / max(steps, 1)) / (last + 1))
    return int(percent.group(1)) / 100 if percent is not None else None


def _start(arguments: list[str], folder: Path) -> "subprocess.Popen[bytes]":
    environment = {**os.environ, "FORCE_COLOR": "1", "COLUMNS": "110"}  # so that progress is shown as it goes
    process = subprocess.Popen(
        [sys.executable, "-m", "blemish", *arguments],
        cwd=folder,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        env=environment,
        start_new_session=True,
    )
    if hasattr(os, "setpriority"):
        with contextlib.suppress(OSError):
            os.setpriority(os.PRIO_PROCESS, process.pid, NICE)
    return process


def _end(process: "subprocess.Popen[bytes]") -> None:
    """The process and those that it started."""
    for number in (signal.SIGTERM, getattr(signal, "SIGKILL", signal.SIGTERM)):
        try:
            os.killpg(process.pid, number) if hasattr(os, "killpg") else process.terminate()
            process.wait(timeout=END_S)
            return
        except subprocess.TimeoutExpired:
            continue
        except OSError:
            return


def _known(folder: Path) -> list[Job]:
    """Jobs of earlier days; one that was running when the station ended was interrupted."""
    found = []
    for path in folder.glob("*/job.json"):
        try:
            kept: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
            job = Job(path.parent, kept["title"], kept["who"], kept["commands"], kept.get("px_per_mm"))
            job.started = datetime.fromisoformat(kept["started"])
            job.state = "interrupted" if kept["state"] == "running" else kept["state"]
            job.ended = datetime.fromisoformat(kept["ended"]) if kept["ended"] else None
            log_file = path.with_name("log.txt")
            job.lines.extend(log_file.read_text(encoding="utf-8").splitlines() if log_file.exists() else [])
        except (OSError, ValueError, KeyError, TypeError):
            log.warning("%s is damaged, and passed over", path)
            continue
        found.append(job)
    return found


def train_commands(data: Path, method: str | None, options: Sequence[str], px_per_mm: float | None) -> list[list[str]]:
    """The commands of a training, by one method or, without it, by the advisor's.

    Raises DataError for options that are none.
    """
    train = ["train", str(data), "--out", "{folder}/run", *_set(options)]
    train += ["--method", method] if method else []
    train += ["--px-per-mm", f"{px_per_mm:g}"] if px_per_mm else []
    return [train, ["report", "{folder}/run", str(data), "--out", "{folder}/report.html"]]


def compare_commands(data: Path, methods: Sequence[str], options: Sequence[str], budget: str) -> list[list[str]]:
    """The command of a comparison: of some methods or, without them, of those that the advisor ranks first.

    Options are METHOD.KEY=VALUE, or KEY=VALUE for all methods that have it; `budget` is a time such as 30m, or "".
    """
    compare = ["compare", str(data), "--methods", ",".join(methods) or "auto", "--out", "{folder}/run", *_set(options)]
    return [[*compare, f"--budget={budget}"] if budget else compare]


def _set(options: Sequence[str]) -> list[str]:
    for option in options:
        if not re.match(r"^[A-Za-z_][\w.-]*=", option):
            raise DataError(f"'{option[:50]}' is no option; write NAME=VALUE, one a line")
    return [part for option in options for part in ("--set", option)]


def known_methods() -> list[dict[str, Any]]:
    """The catalogue as `blemish methods` tells it: learning is not of this process. Raises DataError without it."""
    command = [sys.executable, "-m", "blemish", "methods", "--json", "-"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False, stdin=subprocess.DEVNULL)
    if done.returncode:
        raise DataError(" ".join(done.stderr.split())[-300:] or "the methods cannot be listed")
    found: list[dict[str, Any]] = json.loads(done.stdout)
    return found
