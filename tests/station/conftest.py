"""A station to test: in this process, or as a process of its own that can be killed; on SQLite and on PostgreSQL."""

import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import cv2
import httpx
import numpy as np
import pytest
from fastapi.testclient import TestClient
from graphs import anomaly_bundle

from blemish.station.api import create_app
from blemish.station.settings import Settings
from blemish.station.station import Station, open_station, start_with

GOOD_GREY, BAD_GREY, SIDE = 60, 200, 64
HTTP = httpx.Client(trust_env=False, timeout=20)  # one for all: each new one reads all certificates of the machine
SERVE = "import typer; from blemish.cli.serve import serve; typer.run(serve)"


def picture(defect: bool = False, seed: int = 0) -> bytes:
    """A PNG that the grey bundle passes, or rejects; another seed makes another file."""
    image = np.full((SIDE, SIDE), GOOD_GREY, np.uint8)
    image[0, :8] = np.random.default_rng(seed).integers(0, GOOD_GREY, 8)
    if defect:
        image[20:30, 20:40] = BAD_GREY
    return bytes(cv2.imencode(".png", image)[1])


@pytest.fixture(scope="session")
def bundle_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return anomaly_bundle(tmp_path_factory.mktemp("bundle") / "grey.blemish")


@pytest.fixture(scope="session")
def postgres() -> Iterator[str]:
    """The address of a PostgreSQL server that is started for the tests, without the name of a database."""
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"))
    if not found:
        pytest.skip("no PostgreSQL server in /usr/lib/postgresql; the record is tested on SQLite alone")
    programs, folder = found[-1].parent, Path(tempfile.mkdtemp(prefix="blemish-postgres-"))
    as_server = ["runuser", "-u", "postgres", "--"] if os.geteuid() == 0 else []  # it refuses to run as root
    if as_server:
        shutil.chown(folder, "postgres")
    port = free_port()

    def call(*command: str) -> None:
        subprocess.run([*as_server, *command], check=True, capture_output=True, cwd="/", timeout=120)

    call(str(programs / "initdb"), "-D", str(folder / "db"), "-U", "test", "-A", "trust", "-E", "UTF8", "--no-sync")
    options = f"-h 127.0.0.1 -p {port} -k {folder} -F"
    call(str(programs / "pg_ctl"), "-D", str(folder / "db"), "-w", "-l", str(folder / "log"), "-o", options, "start")
    try:
        yield f"postgresql://test@127.0.0.1:{port}"
    finally:
        call(str(programs / "pg_ctl"), "-D", str(folder / "db"), "-m", "immediate", "stop")
        shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(params=["sqlite", "postgresql"])
def database_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """An empty database of either kind."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path / 'record.db'}"
    import psycopg

    server, name = request.getfixturevalue("postgres"), f"t{uuid.uuid4().hex}"
    with psycopg.connect(f"{server}/postgres", autocommit=True) as connection:
        connection.execute(f'CREATE DATABASE "{name}"'.encode())
    return f"postgresql+psycopg{server.removeprefix('postgresql')}/{name}"


@contextmanager
def running(folder: Path, bundle: Path | None, **settings: object) -> Iterator[Station]:
    with open_station(Settings(data=folder, **settings)) as station:  # type: ignore[arg-type]
        if bundle is not None:
            start_with(station, bundle)
        yield station


@pytest.fixture
def station(tmp_path: Path, bundle_file: Path) -> Iterator[Station]:
    with running(tmp_path / "station", bundle_file, image_folders=[tmp_path / "shots"]) as found:
        yield found


def client_of(station: Station, token: str | None = None) -> TestClient:
    headers = {"Authorization": f"Bearer {token}"} if token else {}
    return TestClient(create_app(station), base_url="http://127.0.0.1", headers=headers, raise_server_exceptions=False)


@pytest.fixture
def client(station: Station) -> TestClient:
    return client_of(station)


class Server:
    """`blemish serve` as a process of its own."""

    def __init__(self, folder: Path, *arguments: str) -> None:
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self._log = folder.with_name(folder.name + ".log")
        self._command = [
            sys.executable, "-c", SERVE, "--data", str(folder), "--port", str(self.port), "--threads", "1", *arguments,
        ]  # fmt: skip
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(self._command, stdout=log, stderr=log)
        deadline = time.monotonic() + 180  # a busy machine takes its time
        while time.monotonic() < deadline and self._process.poll() is None:
            try:
                if HTTP.get(f"{self.url}/readyz").status_code == 200:
                    return
            except httpx.TransportError:
                pass
            time.sleep(0.05)
        raise AssertionError(f"the server did not start: {self._log.read_text()[-2000:]}")

    def kill(self) -> None:
        """As a power cut would, for the process."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()

    def end(self) -> int:
        assert self._process is not None
        self._process.terminate()
        return self._process.wait(timeout=30)


@pytest.fixture
def serve(tmp_path: Path, bundle_file: Path) -> Iterator[Callable[..., Server]]:
    """Starts servers in `tmp_path`/NAME; what still runs at the end is killed."""
    servers = []

    def start(name: str, *arguments: str) -> Server:
        server = Server(tmp_path / name, "--bundle", str(bundle_file), *arguments)
        servers.append(server)
        server.start()
        return server

    yield start
    for server in servers:
        server.kill()


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def wait_until(holds: Callable[[], bool], seconds: float = 20) -> None:
    deadline = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < deadline, "it did not come about in time"
        time.sleep(0.02)
