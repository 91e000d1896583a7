"""Answers of commands about methods and data, for which pages wait."""

import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from station_helpers import wait_until

from blemish.errors import DataError
from blemish.station import method_queries
from blemish.station.method_queries import MethodQueries

# Each process leaves a file with its number in the folder {folder}.
NOTED = "import os, sys, time; open(os.path.join(r'{folder}', str(os.getpid())), 'x').close(); "


def command(monkeypatch: pytest.MonkeyPatch, folder: Path, code: str) -> None:
    monkeypatch.setattr(method_queries, "COMMAND", [sys.executable, "-c", NOTED.format(folder=folder) + code])


def test_methods_are_listed_once_for_all_pages(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    command(monkeypatch, tmp_path, "print('[{}]')")
    queries = MethodQueries()
    with ThreadPoolExecutor(4) as pages:
        found = list(pages.map(lambda _: queries.methods(), range(4)))
    assert found == [[{}]] * 4
    assert len(list(tmp_path.iterdir())) == 1


def test_a_stopped_station_waits_for_no_plan(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither for the one that is made, nor for the one behind it."""
    started = tmp_path / "started"
    started.mkdir()
    command(monkeypatch, started, "time.sleep(600)")
    queries = MethodQueries()
    with ThreadPoolExecutor(2) as pages:
        plans = [pages.submit(queries.plan, tmp_path, tmp_path / "plans" / f"{page}.yaml") for page in range(2)]
        wait_until(lambda: bool(list(started.iterdir())))
        queries.stop()
        for plan in plans:
            with pytest.raises(DataError):
                plan.result(timeout=60)
    assert len(list(started.iterdir())) == 1


def test_what_a_command_says_is_the_error(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"^\S.*nowhere.*does not exist"):
        MethodQueries().plan(tmp_path / "nowhere", tmp_path / "plan.yaml")
