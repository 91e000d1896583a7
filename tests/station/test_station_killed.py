"""The station as a process: killed without warning, asked by random requests, sent more than it takes."""

import json
import random
import socket
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from schemathesis import GenerationMode
from station_helpers import HTTP, Server, client_of, picture, running, wait_until
from typer.testing import CliRunner

from blemish.imaging.read import encode
from blemish.station.api import create_app
from blemish.station.station import Station

PARTS, KILLS, CLIENTS = 300, 5, 6
ServerMaker = Callable[..., Server]


def test_every_answered_part_is_recorded_once_though_the_station_is_killed(tmp_path: Path, serve: ServerMaker) -> None:
    sink = tmp_path / "results.jsonl"
    server = serve("s", "--batch-size", "4", "--sink", f"jsonl:{sink}")
    answers: dict[str, tuple[int, str]] = {}
    numbers, lock = iter(range(PARTS)), threading.Lock()

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
    for turn in range(KILLS):
        while len(answers) < PARTS * (turn + rng.uniform(0.1, 0.8)) / KILLS:
            time.sleep(0.005)
        server.kill()
        server.start()
    for thread in clients:
        thread.join()
    wait_until(lambda: f'{sink}"}} 0.0' in HTTP.get(f"{server.url}/metrics").text)
    assert server.end() == 0
    delivered = [result["id"] for line in sink.read_text().splitlines() if (result := read_result(line))]
    assert set(delivered) == {key for key, _ in answers.values()}  # at least once
    with sqlite3.connect(tmp_path / "s" / "station.db") as connection:
        recorded = list(connection.execute("SELECT part_id, id, verdict FROM inspections"))
    assert len(recorded) == PARTS
    assert {part: (key, verdict) for part, key, verdict in recorded} == answers
    assert all(answers[f"p{n}"][1] == ("reject" if n % 3 == 0 else "pass") for n in range(PARTS))


def read_result(line: str) -> dict[str, Any] | None:
    """None for half a line, which a kill may leave."""
    try:
        return dict(json.loads(line))
    except ValueError:
        return None


def test_a_body_of_a_gigabyte_is_refused_early(tmp_path: Path, serve: ServerMaker) -> None:
    server = serve("s", "--max-image-mib", "1")

    def pump(head: bytes, chunked: bool) -> tuple[bytes, int]:
        """Send up to 1 GiB, until an answer comes; the answer's first line, and how much was sent."""
        block, sent = bytes(2**18), 0
        with socket.create_connection(("127.0.0.1", server.port), timeout=30) as connection:
            connection.sendall(b"POST /v1/inspections HTTP/1.1\r\nHost: 127.0.0.1\r\n" + head + b"\r\n")
            answer = b""
            connection.setblocking(False)
            while sent < 2**30 and not answer:
                try:
                    answer = connection.recv(4096)
                    break
                except BlockingIOError:
                    pass
                except ConnectionError:
                    break
                connection.settimeout(10)
                try:
                    connection.sendall(b"40000\r\n" + block + b"\r\n" if chunked else block)
                except ConnectionError:
                    break
                sent += len(block)
                connection.setblocking(False)
        return answer.partition(b"\r\n")[0], sent

    kind = b"Content-Type: multipart/form-data; boundary=x\r\n"
    for head, chunked in ((b"Content-Length: 1073741824\r\n", False), (b"Transfer-Encoding: chunked\r\n", True)):
        answer, sent = pump(kind + head, chunked)
        assert sent < 2**26
        assert b" 4" in answer or not answer  # the connection may be closed before the answer is read
        assert HTTP.get(f"{server.url}/readyz").status_code == 200
    big = HTTP.post(f"{server.url}/v1/inspections", files={"image": bytes(3 * 2**20)})
    assert big.status_code == 413


def test_beyond_loopback_a_token_is_a_must(tmp_path: Path, bundle_file: Path) -> None:
    def call(*arguments: str) -> "subprocess.CompletedProcess[str]":
        script = (
            "import sys; from blemish.errors import BlemishError\nimport typer; from blemish.cli.serve import serve\n"
        )
        script += "try:\n    typer.run(serve)\nexcept BlemishError as e:\n    sys.exit(str(e))"
        command = [sys.executable, "-c", script, "--data", str(tmp_path / "s"), *arguments]
        return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)

    refused = call("--host", "0.0.0.0", "--bundle", str(bundle_file))
    assert refused.returncode != 0
    assert "--new-token" in refused.stderr
    token = call("--new-token", "anna:engineer").stdout.strip()
    with running(tmp_path / "s", bundle_file) as station:
        assert client_of(station).get("/v1/recipes").status_code == 401
        assert client_of(station, token).get("/v1/recipes").status_code == 200


def test_replay_says_whether_the_answer_is_the_same(tmp_path: Path, bundle_file: Path) -> None:
    import typer

    from blemish.cli.replay import replay

    app = typer.Typer()
    app.command()(replay)
    with running(tmp_path / "s", bundle_file) as station:
        client = client_of(station)
        defects = (True, False, True, True, True)
        ids = [client.post("/v1/inspections", files={"image": picture(defect=d)}).json()["id"] for d in defects]
        with station.database.writing() as session:
            from blemish.station.models import InspectionRow

            session.get_one(InspectionRow, ids[1]).score = 0.9
            region = session.get_one(InspectionRow, ids[2]).regions[0]
            region.measurements = {**region.measurements, "length_px": 999.0}
            region = session.get_one(InspectionRow, ids[3]).regions[0]
            region.mask = encode(np.eye(region.y1 - region.y0, region.x1 - region.x0, dtype=bool), ".png")
            session.get_one(InspectionRow, ids[4]).reasons = [
                {"kind": "rule", "verdict": "reject", "rule": "another rule"}
            ]
            kept = station.settings.images / str(session.get_one(InspectionRow, ids[0]).image_path)
    run = CliRunner().invoke
    same, other, *altered = (run(app, [str(key), "--data", str(tmp_path / "s")]) for key in ids)
    assert (same.exit_code, "is the same" in same.output) == (0, True)
    assert (other.exit_code, "score was 0.9" in other.output) == (1, True)
    for found, said in zip(altered, ("length_px was 999", "its mask shares", "another rule"), strict=True):
        assert (found.exit_code, said in found.output) == (1, True), found.output
    kept.write_bytes(picture(seed=3))
    assert "not the one that was inspected" in str(run(app, [str(ids[0]), "--data", str(tmp_path / "s")]).exception)


def test_replay_of_a_part_without_an_answer_has_none_again(tmp_path: Path, bundle_file: Path) -> None:
    from blemish.station.replay import replay

    with running(tmp_path / "s", bundle_file, watch=[tmp_path / "in"]) as station:
        (tmp_path / "in" / "broken.png").write_bytes(picture()[:60])
        wait_until(lambda: client_of(station).get("/v1/inspections").json()["total"] == 1)
        with station.database.reading() as session:
            from blemish.station.models import InspectionRow

            row = session.get_one(InspectionRow, 1)
            found = replay(row, station.service.inspectors.get(row.recipe), station.settings.images / row.image_path)
    assert (found.inspection, found.differences) == (None, [])


@pytest.fixture
def full_station(tmp_path: Path, bundle_file: Path) -> Iterator[Station]:
    """With a part of everything, so that random requests find something."""
    with running(tmp_path / "s", bundle_file, max_image_bytes=2**20, max_bundle_bytes=2**20) as station:
        client = client_of(station)
        part = client.post("/v1/inspections", files={"image": picture(defect=True)}).json()["id"]
        client.put(f"/v1/golden/{part}", json={"label": "defect"})
        client.post(f"/v1/inspections/{part}/reviews", json={"label": "defect"})
        yield station


def fuzz(station: Station, examples: int) -> None:
    """Valid and invalid requests to every operation of the OpenAPI document."""
    local = {"Host": "127.0.0.1"}
    schema = schemathesis.openapi.from_asgi("/openapi.json", create_app(station), headers=local)
    seen = set()
    for operation in (found.ok() for found in schema.get_all_operations()):
        if (operation.method.upper(), operation.path) == ("POST", "/v1/tokens"):
            continue  # from the first token on, every request would be refused

        @given(case=operation.as_strategy(GenerationMode.POSITIVE) | operation.as_strategy(GenerationMode.NEGATIVE))
        @settings(max_examples=examples, deadline=None, derandomize=True, database=None, phases=[Phase.generate],
                  suppress_health_check=list(HealthCheck))  # fmt: skip
        def check(case: schemathesis.Case) -> None:
            answer = case.call(headers=local)
            seen.add((case.method, case.path, answer.status_code < 300))
            assert answer.status_code < 500, f"{case.as_curl_command()}\n{answer.text[:500]}"

        check()
    succeeded = {path for _, path, fine in seen if fine}
    assert {"/v1/recipes", "/v1/inspections", "/v1/decision", "/v1/audit", "/metrics"} <= succeeded
    assert client_of(station).get("/readyz").status_code == 200


def test_random_requests_find_no_server_error(full_station: Station) -> None:
    fuzz(full_station, 8)


@pytest.mark.slow
def test_many_random_requests_find_no_server_error(full_station: Station) -> None:
    fuzz(full_station, 300)


@pytest.mark.slow
def test_many_random_requests_find_no_server_error_on_either_database(
    tmp_path: Path, bundle_file: Path, database_url: str
) -> None:
    with running(tmp_path / "s", bundle_file, db=database_url) as station:
        fuzz(station, 100)
