"""Helpers of the station's tests: pictures of parts, stations in this process, and as processes that can be killed."""

import json
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import cv2
import httpx
import numpy as np
from fastapi.testclient import TestClient

from blemish.errors import BlemishError
from blemish.inspection.inspector import Inspector
from blemish.inspection.result import Inspection
from blemish.station import repository
from blemish.station.api import create_app
from blemish.station.database import Database
from blemish.station.repository import IncomingPart, NewInspection
from blemish.station.settings import Settings
from blemish.station.station import Station, activate_bundle, open_station

GOOD_GREY, BAD_GREY, SIDE = 60, 200, 64
HTTP = httpx.Client(trust_env=False, timeout=20)  # one for all: each new one reads all certificates of the machine
ServerMaker = Callable[..., "Server"]
SERVE = "import typer; from blemish.cli.serve import serve; typer.run(serve)"


def picture(defect: bool = False, seed: int = 0) -> bytes:
    """A PNG that the grey bundle passes, or rejects; another seed makes another file."""
    image = np.full((SIDE, SIDE), GOOD_GREY, np.uint8)
    image[0, :8] = np.random.default_rng(seed).integers(0, GOOD_GREY, 8)
    if defect:
        image[20:30, 20:40] = BAD_GREY
    return bytes(cv2.imencode(".png", image)[1])


@contextmanager
def run_station(folder: Path, bundle: Path | None, **settings: object) -> Iterator[Station]:
    with open_station(Settings(data=folder, **settings)) as station:  # type: ignore[arg-type]
        if bundle is not None:
            activate_bundle(station, bundle)
        yield station


def make_client(station: Station, token: str | None = None) -> TestClient:
    headers = {"Authorization": f"Bearer {token}"} if token else {}
    return TestClient(
        create_app(station),
        base_url="http://127.0.0.1",
        headers=headers,
        raise_server_exceptions=False,
        client=("127.0.0.1", 50000),
    )


def put_decision(client: httpx.Client, decision: dict[str, object], **fields: object) -> httpx.Response:
    """Change the decision of the recipe that is active now."""
    tag = client.get("/v1/decision").headers["ETag"]
    return client.put("/v1/decision", json={"decision": decision, **fields}, headers={"If-Match": tag})


class Server:
    """`blemish serve` as a process of its own."""

    def __init__(self, folder: Path, *arguments: str) -> None:
        self.folder = folder
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self._log = folder.with_name(folder.name + ".log")
        self._command = [
            sys.executable, "-c", SERVE, "--data", str(folder), "--port", str(self.port), "--threads", "1", *arguments,
        ]  # fmt: skip
        self._process: subprocess.Popen[bytes] | None = None

    def start(self, probe: str = "readyz") -> None:
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(self._command, stdout=log, stderr=log)
        deadline = time.monotonic() + 180  # a busy machine takes its time
        while time.monotonic() < deadline and self._process.poll() is None:
            try:
                if HTTP.get(f"{self.url}/{probe}").status_code == 200:
                    return
            except httpx.TransportError:
                pass
            time.sleep(0.05)
        raise AssertionError(f"the server did not start: {self._log.read_text()[-2000:]}")

    def kill(self) -> None:
        """Kill the process, as a power cut would."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()

    def send_signal(self, number: int) -> None:
        if self._process is not None and self._process.poll() is None:
            self._process.send_signal(number)

    def end(self) -> int:
        assert self._process is not None
        self._process.terminate()
        return self._process.wait(timeout=30)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def wait_until(holds: Callable[[], bool], seconds: float = 90) -> None:
    deadline = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < deadline, "it did not come about in time"
        time.sleep(0.02)


def send(client: TestClient, content: bytes, key: str | None = None, name: str = "x.png", **fields: str):  # type: ignore[no-untyped-def]
    headers = {"Idempotency-Key": key} if key else {}
    return client.post("/v1/inspections", files={"image": (name, content)}, data=fields, headers=headers)


def use(client: TestClient, bundle: Path) -> dict[str, object]:
    """Take in a bundle and make it the recipe in use; the answer to the first request that was refused, if any."""
    taken = client.post("/v1/bundles", files={"bundle": bundle.read_bytes()})
    made = taken if taken.status_code != 200 else post_recipe(client, taken.json()["sha256"])
    done = made if made.status_code != 201 else client.post(f"/v1/recipes/{made.json()['id']}/activate")
    return dict(done.json())


def post_recipe(client: TestClient, sha256: str):  # type: ignore[no-untyped-def]
    return client.post("/v1/recipes", json={"name": "other", "bundle": sha256})


def inspected(bundle: Path, grey: int) -> Inspection:
    image = np.full((64, 80), 50, np.uint8)
    image[10:30, 20:50] = grey
    return Inspector.open(bundle).inspect(image)


def store(database: Database, recipe_id: int, found: Inspection | BlemishError, **fields: object) -> int:
    sinks = fields.pop("sinks", ())
    part = IncomingPart(recipe_id, "0" * 64, 10, "api", **fields)  # type: ignore[arg-type]
    with database.writing() as session:
        (stored,) = repository.store_inspections(
            session,
            [NewInspection(part, found)],
            record=database.record,
            station="s",
            sinks=sinks,  # type: ignore[arg-type]
        )
        return int(stored.columns["id"])


def grey(level: int, seed: int) -> bytes:
    """A good part with a square of this grey level."""
    image = cv2.imdecode(np.frombuffer(picture(seed=seed), np.uint8), cv2.IMREAD_GRAYSCALE)
    image[40:50, 10:20] = level
    return bytes(cv2.imencode(".png", image)[1])


class Hook:
    """A web server that takes results, and can be stopped or made to fail."""

    def __init__(self) -> None:
        self.port, self.taken, self.fails = free_port(), [], 0  # type: ignore[var-annotated]
        self.refuses: dict[str, int] = {}  # part -> status of its answer

    @contextmanager
    def up(self) -> Iterator[None]:
        hook = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                content = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                if content["part_id"] in hook.refuses:
                    self.send_response(hook.refuses[content["part_id"]])
                    self.send_header("Content-Length", "0")
                    self.end_headers()
                    return
                hook.fails -= 1
                if hook.fails < 0:
                    hook.taken.append((content["id"], self.headers["Idempotency-Key"]))
                self.send_response(200 if hook.fails < 0 else 503)
                self.send_header("Content-Length", "0")
                self.end_headers()

            def log_message(self, *_: object) -> None:
                pass

        server = ThreadingHTTPServer(("127.0.0.1", self.port), Handler)
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield
        finally:
            server.shutdown()
            server.server_close()
            thread.join()
