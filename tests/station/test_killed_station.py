"""The station as a process that is killed without warning."""

import json
import random
import sqlite3
import threading
import time
from pathlib import Path
from typing import Any

import httpx
import pytest
from station_helpers import (
    HTTP,
    ServerMaker,
    picture,
    wait_until,
)

CLIENTS = 6


@pytest.mark.parametrize(("parts", "kills"), [(180, 3), pytest.param(10_000, 100, marks=pytest.mark.slow)])
def test_every_answered_part_is_recorded_once_though_the_station_is_killed(
    tmp_path: Path, serve: ServerMaker, parts: int, kills: int
) -> None:
    sink = tmp_path / "results.jsonl"
    server = serve("s", "--batch-size", "4", "--sink", f"jsonl:{sink}")
    answers: dict[str, tuple[int, str]] = {}
    numbers, lock = iter(range(parts)), threading.Lock()

    def client() -> None:
        while True:
            with lock:
                number = next(numbers, None)
            if number is None:
                return
            part = f"p{number}"
            while part not in answers:
                try:
                    answer = HTTP.post(
                        f"{server.url}/v1/inspections",
                        files={"image": ("x.png", picture(defect=number % 3 == 0, seed=number))},
                        data={"part_id": part}, headers={"Idempotency-Key": part},
                    )  # fmt: skip
                except httpx.TransportError:
                    time.sleep(0.05)
                    continue
                if answer.status_code == 200:
                    answers[part] = (answer.json()["id"], answer.json()["verdict"])

    clients = [threading.Thread(target=client, daemon=True) for _ in range(CLIENTS)]
    for thread in clients:
        thread.start()
    rng = random.Random(0)
    for turn in range(kills):
        while len(answers) < parts * (turn + rng.uniform(0.1, 0.8)) / kills:
            time.sleep(0.005)
        server.kill()
        server.start()
    for thread in clients:
        thread.join()
    pending = f'blemish_outbox_pending{{sink="station/jsonl:{sink}"}} 0.0'  # not the gauge of dead letters, always 0.0
    wait_until(lambda: pending in HTTP.get(f"{server.url}/metrics").text, seconds=600)
    assert server.end() == 0
    delivered = [result["id"] for line in sink.read_text().splitlines() if (result := read_result(line))]
    assert set(delivered) == {key for key, _ in answers.values()}  # at least once
    with sqlite3.connect(tmp_path / "s" / "station.db") as connection:
        recorded = list(connection.execute("SELECT part_id, id, verdict FROM inspections"))
    assert len(recorded) == parts
    assert {part: (key, verdict) for part, key, verdict in recorded} == answers
    assert all(answers[f"p{n}"][1] == ("reject" if n % 3 == 0 else "pass") for n in range(parts))


def read_result(line: str) -> dict[str, Any] | None:
    """None for half a line, which a kill may leave."""
    try:
        return dict(json.loads(line))
    except ValueError:
        return None
