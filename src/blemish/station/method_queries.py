"""What `blemish` says of methods and data, from commands in processes of their own: the station never imports torch."""

import json
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

from blemish.errors import DataError
from blemish.station.process_priority import lower_priority
from blemish.translation import ENGLISH

COMMAND = [sys.executable, "-m", "blemish"]
QUERY_S = 600  # for a command whose answer a page waits for


class MethodQueries:
    """The commands that pages wait for; they end with the station."""

    def __init__(self) -> None:
        self._listing, self._planning, self._lock = threading.Lock(), threading.Lock(), threading.Lock()
        self._methods: list[dict[str, Any]] | None = None
        self._running: set[subprocess.Popen[str]] = set()
        self._stopped = False

    def methods(self) -> list[dict[str, Any]]:
        """The catalogue as `blemish methods` lists it.

        That takes seconds of processor time, and so it is listed once for all pages. Raises DataError where training is
        not installed.
        """
        with self._listing:
            if self._methods is None:
                self._methods = self._query("methods", "--json", "-")
            return self._methods

    def plan(self, data: Path, file: Path, language: str = ENGLISH) -> dict[str, Any]:
        """The advisor's plan for a data set, also written to `file`: methods with estimates, measured on this machine.

        One at a time, since two would measure each other. Raises DataError where the data cannot be read, or no method
        can be trained on them.
        """
        file.parent.mkdir(parents=True, exist_ok=True)
        with self._planning:
            plan: dict[str, Any] = self._query(
                "plan", str(data), "--out", str(file), "--language", language, "--json", "-"
            )
        return plan

    def stop(self) -> None:
        """End what runs: a station that is stopped waits for no answer that nobody will read."""
        with self._lock:
            self._stopped = True
            for process in self._running:
                process.kill()

    def _query(self, *arguments: str) -> Any:
        """The JSON that a command of `blemish` prints; raises DataError with its message."""
        pipe = subprocess.PIPE
        with self._lock:
            if self._stopped:
                raise DataError("the station is being stopped")
            process = subprocess.Popen(
                [*COMMAND, *arguments], stdin=subprocess.DEVNULL, stdout=pipe, stderr=pipe, text=True
            )
            self._running.add(process)
        with process:
            lower_priority(process)
            try:
                answer, problems = process.communicate(timeout=QUERY_S)
            except subprocess.TimeoutExpired as error:
                process.kill()
                raise DataError(f"'blemish {arguments[0]}' took longer than {QUERY_S} s") from error
            finally:
                with self._lock:
                    self._running.discard(process)
        if process.returncode:
            lines = problems.rstrip().split("\n")
            last = len(lines) - 1  # of a traceback, should there be one, the error
            first = next((i for i, line in enumerate(lines) if line.startswith("blemish: ")), last)  # after warnings
            message = " ".join(" ".join(lines[first:]).split()).removeprefix("blemish: ")
            raise DataError(message[:500] or f"'blemish {arguments[0]}' failed")
        return json.loads(answer)
