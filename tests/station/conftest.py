"""Fixtures of the station's tests: a bundle, a station in this process or as one of its own, databases, a browser."""

import os
import shutil
import subprocess
import tempfile
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from browser import Browser
from fastapi.testclient import TestClient
from graphs import anomaly_bundle
from station_helpers import Server, free_port, make_client, run_station

from blemish.station import recipes, sinks, watched_folder
from blemish.station.database import Database, open_database
from blemish.station.image_store import receive_file
from blemish.station.station import Station


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    window = Browser()
    yield window
    window.driver.quit()


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


@pytest.fixture
def station(tmp_path: Path, bundle_file: Path) -> Iterator[Station]:
    with run_station(tmp_path / "station", bundle_file, image_folders=[tmp_path / "shots"]) as found:
        yield found


@pytest.fixture
def client(station: Station) -> TestClient:
    return make_client(station)


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


@pytest.fixture
def database(database_url: str) -> Iterator[Database]:
    found = open_database(database_url)
    yield found
    found.engine.dispose()


@pytest.fixture
def recipe_id(database: Database, bundle_file: Path, tmp_path: Path) -> int:
    with bundle_file.open("rb") as stream:
        file = receive_file(stream, tmp_path / "incoming", 2**20)
    bundle = recipes.import_bundle(database, file, tmp_path / "bundles", "anna")
    with database.writing() as session:
        recipe = recipes.make_recipe(session, "plates", session.merge(bundle), "anna")
        recipes.activate(session, recipe, "anna")
        return recipe.id


@pytest.fixture(autouse=True)
def short_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    """Short waits for sinks that fail and for files that settle."""
    monkeypatch.setattr(sinks, "FIRST_WAIT_S", 0.05)
    monkeypatch.setattr(sinks, "MAX_WAIT_S", 0.3)
    monkeypatch.setattr(sinks, "TIMEOUT_S", 2.0)
    monkeypatch.setattr(watched_folder, "SETTLED_S", 0.05)
