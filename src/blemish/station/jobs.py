"""Trainings and comparisons in the background, one at a time, as commands of `blemish` in processes of their own."""

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
from datetime import datetime
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, Field, ValidationError

from blemish.errors import BlemishError, DataError
from blemish.files import write_atomic
from blemish.station.method_queries import MethodQueries
from blemish.station.models import now
from blemish.station.process_priority import lower_priority

log = logging.getLogger("blemish.station")
JobState = Literal["running", "done", "failed", "cancelled", "interrupted"]
MAX_LINES = 400  # of a job's output that are kept
END_S = 10.0  # from asking a process to end to killing it
_TAIL_BYTES = 4096  # of a progress file; a line has fewer


class BusyError(BlemishError):
    """Another job is running."""


class JobProgress(BaseModel):
    """The last line that a training wrote to `progress.jsonl` in its run folder."""

    stage: str
    share: float | None = Field(default=None, ge=0, le=1)
    epoch: int | None = None
    loss: float | None = None
    remaining_s: float | None = None
    run: str = ""  # name of the run folder: of a comparison, the method


class TrainingJob(BaseModel):
    folder: Path = Field(exclude=True)
    title: str
    user: str
    commands: list[list[str]]  # arguments of `blemish`, one command after the other
    px_per_mm: float | None = None  # of the data; a bundle without a scale is promoted with it
    started: datetime = Field(default_factory=now)
    ended: datetime | None = None
    state: JobState = "running"
    step: int = 0  # index of the command that runs
    lines: deque[str] = Field(default_factory=lambda: deque(maxlen=MAX_LINES), exclude=True)

    @property
    def id(self) -> str:
        return self.folder.name

    @property
    def bundles(self) -> dict[str, Path]:
        """Bundles that may be promoted, by name, once the job is done; the choice of a comparison comes first."""
        if self.state != "done":
            return {}
        run = self.folder / "run"
        return {path.stem: path for path in [*sorted(run.glob("*.blemish")), *sorted(run.glob("runs/*/*.blemish"))]}

    @property
    def report(self) -> Path | None:
        """The HTML page of the whole job, not that of one of the compared methods."""
        return min(self.folder.glob("**/*.html"), key=lambda path: (len(path.parts), path), default=None)

    @property
    def progress(self) -> JobProgress | None:
        """Progress of the running training that wrote last; None where none has written yet."""
        if self.state != "running":
            return None
        try:
            file = max(self.folder.glob("run/**/progress.jsonl"), key=lambda path: path.stat().st_mtime)
            with file.open("rb") as stream:
                stream.seek(-min(_TAIL_BYTES, file.stat().st_size), os.SEEK_END)
                whole, _, _ = stream.read().rpartition(b"\n")  # a line that is being written has no end yet
            return JobProgress(**{**json.loads(whole.splitlines()[-1]), "run": file.parent.name})
        except (OSError, ValueError, IndexError, TypeError):
            return None

    def save(self) -> None:
        write_atomic(self.folder / "log.txt", "\n".join(self.lines))
        write_atomic(self.folder / "job.json", self.model_dump_json())


class JobRunner:
    """The jobs of a station, each in a folder below `folder`; they end with the station."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder = folder.resolve()  # its processes run in folders of their own
        self._lock = threading.Lock()
        self._jobs = {job.id: job for job in _load_jobs(folder)}
        self._process: subprocess.Popen[str] | None = None
        self._thread: threading.Thread | None = None
        self.queries = MethodQueries()

    def all(self) -> list[TrainingJob]:
        return sorted(self._jobs.values(), key=lambda job: job.started, reverse=True)

    def get(self, job_id: str) -> TrainingJob | None:
        return self._jobs.get(job_id)

    def start(
        self, title: str, commands: Sequence[Sequence[str]], user: str, px_per_mm: float | None = None
    ) -> TrainingJob:
        """Start a job; "{folder}" in an argument is the job's folder. Raises BusyError while another one runs."""
        with self._lock:
            if any(job.state == "running" for job in self._jobs.values()):
                raise BusyError("another training is running; wait for it, or cancel it")
            folder = self._folder / f"{now():%Y%m%d-%H%M%S}-{uuid.uuid4().hex[:6]}"
            filled = [[word.replace("{folder}", str(folder)) for word in command] for command in commands]
            job = TrainingJob(folder=folder, title=title, user=user, commands=filled, px_per_mm=px_per_mm)
            job.save()
            self._jobs[job.id] = job
            self._thread = threading.Thread(target=self._run, args=(job,), name="blemish-job", daemon=True)
            self._thread.start()
            return job

    def cancel(self, job_id: str, state: JobState = "cancelled") -> None:
        """End a running job; any other stays as it is."""
        with self._lock:
            job = self._jobs.get(job_id)
            if job is None or job.state != "running":
                return
            job.state = state
            process = self._process
        if process is not None:
            _end_process(process)

    def stop(self) -> None:
        self.queries.stop()
        for job in self.all():
            self.cancel(job.id, "interrupted")
        if self._thread is not None:
            self._thread.join(timeout=2 * END_S)

    def _run(self, job: TrainingJob) -> None:
        try:
            succeeded = all(self._run_command(job, index) for index in range(len(job.commands)))
        except Exception:
            log.exception("job %s", job.id)
            succeeded = False
        with self._lock:
            if job.state == "running":
                job.state = "done" if succeeded else "failed"
            job.ended, self._process = now(), None
            with contextlib.suppress(OSError):
                job.save()

    def _run_command(self, job: TrainingJob, index: int) -> bool:
        with self._lock:
            if job.state != "running":
                return False
            job.step = index
            process = self._process = _start_process(job.commands[index], job.folder)
        assert process.stdout is not None
        job.lines.extend(line.rstrip() for line in process.stdout if line.strip())
        return process.wait() == 0


def _start_process(arguments: list[str], folder: Path) -> "subprocess.Popen[str]":
    environment = {name: value for name, value in os.environ.items() if name != "FORCE_COLOR"}
    process = subprocess.Popen(
        [sys.executable, "-m", "blemish", *arguments],
        cwd=folder,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        env=environment | {"COLUMNS": "110", "PYTHONUNBUFFERED": "1", "PYTHONIOENCODING": "utf-8"},
        encoding="utf-8",
        errors="replace",
        start_new_session=True,
    )
    lower_priority(process)
    return process


def _end_process(process: "subprocess.Popen[str]") -> None:
    """End the process and those that it started."""
    for number in (signal.SIGTERM, getattr(signal, "SIGKILL", signal.SIGTERM)):
        try:
            os.killpg(process.pid, number) if hasattr(os, "killpg") else process.terminate()
            process.wait(timeout=END_S)
            return
        except subprocess.TimeoutExpired:
            continue
        except OSError:
            return


def _load_jobs(folder: Path) -> list[TrainingJob]:
    """The jobs in a folder; one that was running when the station ended was interrupted."""
    jobs = []
    for path in folder.glob("*/job.json"):
        try:
            job = TrainingJob(**{**json.loads(path.read_bytes()), "folder": path.parent})
            log_file = path.with_name("log.txt")
            job.lines.extend(log_file.read_text(encoding="utf-8").splitlines() if log_file.exists() else [])
        except (OSError, ValueError, TypeError, ValidationError):
            log.warning("%s is damaged, and ignored", path)
            continue
        job.state = "interrupted" if job.state == "running" else job.state
        jobs.append(job)
    return jobs


def train_commands(data: Path, method: str | None, options: Sequence[str], px_per_mm: float | None) -> list[list[str]]:
    """The commands of a training, by one method or, without it, by the advisor's choice.

    Raises DataError for options that are not NAME=VALUE.
    """
    train = ["train", str(data), "--out", "{folder}/run", *_option_arguments(options)]
    train += ["--method", method] if method else []
    train += ["--px-per-mm", f"{px_per_mm:g}"] if px_per_mm else []
    return [train, ["report", "{folder}/run", str(data), "--out", "{folder}/report.html"]]


def compare_commands(data: Path, methods: Sequence[str], options: Sequence[str], budget: str) -> list[list[str]]:
    """The command of a comparison: of some methods or, without them, of those that the advisor ranks first.

    Options are METHOD.KEY=VALUE, or KEY=VALUE for all methods that have it; `budget` is a time such as 30m, or "".
    """
    compare = ["compare", str(data), "--methods", ",".join(methods) or "auto", "--out", "{folder}/run"]
    compare += _option_arguments(options)
    return [[*compare, f"--budget={budget}"] if budget else compare]


def _option_arguments(options: Sequence[str]) -> list[str]:
    for option in options:
        if not re.match(r"^[A-Za-z_][\w.-]*=", option):
            raise DataError(f"invalid option '{option[:50]}'; write NAME=VALUE, one a line")
    return [word for option in options for word in ("--set", option)]


def plan_commands(plan: Path, data: Path) -> list[list[str]]:
    """The commands of a training by a plan of the advisor."""
    train = ["train", "--plan", str(plan), "--out", "{folder}/run"]
    return [train, ["report", "{folder}/run", str(data), "--out", "{folder}/report.html"]]
