"""The C# client, compiled by Mono, against a running station."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from graphs import anomaly_bundle

sys.path.insert(0, str(Path(__file__).parents[1] / "station"))
from station_helpers import HTTP, Server, picture

SOURCE = Path(__file__).parents[2] / "clients" / "csharp" / "Inspect.cs"


@pytest.fixture(scope="module")
def program(tmp_path_factory):
    if shutil.which("mcs") is None or shutil.which("mono") is None:
        pytest.skip("no Mono here (Debian: apt install mono-mcs)")
    target = tmp_path_factory.mktemp("csharp") / "Inspect.exe"
    subprocess.run(["mcs", "-warnaserror+", f"-out:{target}", str(SOURCE)], check=True, timeout=120)
    return target


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    folder = tmp_path_factory.mktemp("station")
    found = Server(folder / "data", "--bundle", str(anomaly_bundle(folder / "grey.blemish")))
    found.start()
    yield found
    found.kill()


def run(program, *arguments, token=""):
    command = ["mono", str(program), *map(str, arguments)]
    env = {"PATH": "/usr/bin:/bin", "BLEMISH_TOKEN": token}
    return subprocess.run(command, capture_output=True, text=True, timeout=120, env=env, check=False)


def test_verdicts_are_recorded_and_nothing_else_is_a_pass(program, server, tmp_path):
    for defect, status, verdict in ((False, 0, "pass"), (True, 1, "reject")):
        file = tmp_path / "part.png"
        file.write_bytes(picture(defect=defect))
        done = run(program, server.url, file, f"part {verdict}", "L&1")
        assert done.returncode == status, done.stderr
        key, found, score = done.stdout.split()
        row = HTTP.get(f"{server.url}/v1/inspections/{key}").json()
        assert (found, row["verdict"], row["part_id"], row["lot"]) == (verdict, verdict, f"part {verdict}", "L&1")
        assert float(score) == pytest.approx(row["score"])
    (tmp_path / "no.png").write_bytes(b"no image")
    token = HTTP.post(f"{server.url}/v1/tokens", json={"name": "root", "role": "admin"}).json()["token"]
    for url, sent, own, words in (
        (server.url, tmp_path / "no.png", token, "no result: 4"),
        (server.url, file, "blm_wrong", "no result: 401"),
        (server.url, tmp_path / "none.png", token, "none.png"),
    ):
        done = run(program, url, sent, token=own)
        assert (done.returncode, done.stdout, len(done.stderr.splitlines())) == (2, "", 1)
        assert words in done.stderr
    assert run(program, server.url, file, token=token).returncode == 1
    assert HTTP.get(f"{server.url}/v1/inspections", headers={"Authorization": f"Bearer {token}"}).json()["total"] == 3
