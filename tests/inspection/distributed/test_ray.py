"""`blemish inspect --ray`, on a real cluster: one of this machine in the default run; a head and two workers, which are
killed, among the slow tests."""

import json
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import numpy as np
import psutil
import pytest
from graphs import anomaly_bundle

from blemish.imaging.read import write_image

pytest.importorskip("ray", reason="Ray is not installed")
pytest.importorskip("ray.data", reason="Ray Data is not installed")
from ray._private import services
from ray.cluster_utils import Cluster

ENVIRONMENT = {"RAY_USAGE_STATS_ENABLED": "0", "RAY_AUTH_MODE": "disabled", "OMP_NUM_THREADS": "1", "COLUMNS": "200"}
LIMIT_S = 240  # that a started program may take on a busy machine


@pytest.fixture
def images(tmp_path):
    """Twelve different images of 64 × 128, and one that is none."""
    for i in range(12):
        image = np.full((64, 128, 3), 25, np.uint8)
        image[16:48, 32:96] = 20 * i
        write_image(tmp_path / "images" / f"{i:02}.png", image)
    (tmp_path / "images" / "bad.png").write_bytes(b"no image")
    return tmp_path / "images"


def blemish(*arguments, **more):
    command = [sys.executable, "-m", "blemish", *map(str, arguments)]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    return subprocess.Popen(command, env=os.environ | ENVIRONMENT, **pipes | more)


def finish(process):
    out, err = process.communicate(timeout=LIMIT_S)
    assert "Traceback" not in err, err
    return process.returncode, out, err


def rows(out: Path) -> list[dict]:
    """All rows of the shards that are finished."""
    finished = {path.stem for path in out.glob("*/results/*.parquet")}
    files = [path for path in sorted(out.glob("*/results/*.jsonl")) if path.stem in finished]
    return [json.loads(line) for file in files for line in file.read_text().splitlines()]


def without_bundle_and_times(row):
    return {key: value for key, value in row.items() if key not in ("bundle", "timings_ms")}


def test_a_cluster_of_this_machine_gives_the_rows_of_inspect(images, tmp_path):
    bundle = anomaly_bundle(tmp_path / "grey.blemish", side=64)
    (tmp_path / "list.csv").write_text("image\n" + "".join(f"images/{path.name}\n" for path in images.iterdir()))
    out = tmp_path / "out"
    with_ray = ("inspect", bundle, tmp_path / "list.csv", "--ray", "local", "--actors", 2, "--shard", 4, "--out", out)
    code, shown, err = finish(blemish(*with_ray))
    assert code == 2, err
    assert "13 images" in shown
    assert "1 failed; 13 inspected by this run" in shown
    code, _, _ = finish(blemish("inspect", bundle, images, "--json", tmp_path / "one.jsonl"))
    assert code == 2
    expected = {row["source"]: row for row in map(json.loads, (tmp_path / "one.jsonl").read_text().splitlines())}
    found = {row["source"]: without_bundle_and_times(row) for row in rows(out)}
    failed = found.pop(str(images / "bad.png"))
    assert failed["reasons"][0]["kind"] == "failed"
    assert found == {source: without_bundle_and_times(row) for source, row in expected.items()}
    assert len(rows(out)) == 13


class Machines:
    """A head that runs nothing, and two workers of one core each: for Ray three machines, each with processes of its
    own."""

    def __init__(self) -> None:
        size = {"object_store_memory": 100 * 2**20, "include_dashboard": False}
        self._cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 0, **size})
        self._workers = [self._cluster.add_node(num_cpus=1, **size) for _ in range(2)]
        self._cluster.wait_for_nodes()
        self.address = self._cluster.address

    def actors(self) -> list[psutil.Process]:
        """The processes of inspecting actors."""
        found = []
        for process in psutil.Process().children(recursive=True):
            try:
                if "ShardInspector" in "".join(process.cmdline()[:1]):
                    found.append(process)
            except psutil.Error:
                continue
        return found

    def kill_worker(self) -> None:
        """One machine is gone at once, with all of its processes."""
        self._cluster.remove_node(self._workers.pop(), allow_graceful=False)

    def stop(self) -> None:
        self._cluster.shutdown()


@pytest.fixture
def cluster(monkeypatch):
    for name, value in ENVIRONMENT.items():
        monkeypatch.setenv(name, value)
    # Ray gives a machine 30 s to start, which a busy computer may not keep.
    monkeypatch.setenv("RAY_gcs_server_port_wait_time_s", str(LIMIT_S))
    get_node = services.get_node
    monkeypatch.setattr(services, "get_node", lambda *of: wait_for(lambda: get_node(*of), RuntimeError))
    started = Machines()
    yield started
    started.stop()


@pytest.fixture
def many(tmp_path):
    """400 names of eight large images, which take their time."""
    rng = np.random.default_rng(0)
    for i in range(8):
        write_image(tmp_path / "originals" / f"{i}.png", rng.integers(0, 256, (1200, 1200, 3)).astype(np.uint8))
    (tmp_path / "many").mkdir()
    for i in range(400):
        os.link(tmp_path / "originals" / f"{i % 8}.png", tmp_path / "many" / f"{i:03}.png")
    return tmp_path / "many"


def wait_for(ask, failure):
    """The answer, asked for until there is one without the failure."""
    end = time.monotonic() + LIMIT_S
    while True:
        try:
            return ask()
        except failure:
            if time.monotonic() > end:
                raise
            time.sleep(0.2)


def wait_until(true, what: str):
    end = time.monotonic() + LIMIT_S
    while not (found := true()):
        assert time.monotonic() < end, f"waited in vain until {what}"
        time.sleep(0.05)
    return found


def in_the_middle(out: Path) -> bool:
    """Whether some shards are finished, and others are being inspected."""
    return bool([*out.glob("*/results/*.parquet")]) and bool([*out.glob("*/attempts/*")])


@pytest.mark.slow
@pytest.mark.parametrize("victim", ["actor", "driver", "worker"])
def test_killed_in_the_middle_of_a_shard_each_image_still_comes_once(victim, cluster, many, tmp_path):
    bundle, out = anomaly_bundle(tmp_path / "grey.blemish", side=64), tmp_path / "out"
    command = ("inspect", bundle, many, "--ray", cluster.address, "--shard", 40, "--out", out)
    driver = blemish(*command)
    wait_until(lambda: driver.poll() is not None or in_the_middle(out), "a shard was finished")
    assert driver.poll() is None, driver.communicate()
    if victim == "driver":
        driver.send_signal(signal.SIGKILL)
        driver.wait(60)
        driver = blemish(*command)
    elif victim == "actor":
        wait_until(cluster.actors, "an actor runs")[0].kill()
    else:
        cluster.kill_worker()
    code, shown, err = finish(driver)
    assert code in (0, 1, 3), err
    assert "400 images" in shown
    assert ("400 inspected by this run" in shown) == (victim != "driver")
    counted = Counter(row["source"] for row in rows(out))
    assert counted == Counter(map(str, many.iterdir()))
    assert [*out.glob("*/attempts/*")] == []


@pytest.mark.slow
def test_what_a_cluster_cannot_do_is_one_line(cluster, images, tmp_path):
    bundle = anomaly_bundle(tmp_path / "grey.blemish", side=64)
    code, _, err = finish(blemish("inspect", bundle, images, "--ray", "127.0.0.1:1", "--out", tmp_path / "out"))
    assert code == 2
    assert "no Ray cluster can be used at 127.0.0.1:1" in err
    ask = ("inspect", bundle, images, "--ray", cluster.address, "--out", tmp_path / "out")
    code, _, err = finish(blemish(*ask, "--cores", 2))
    assert code == 2
    assert "no machine of the cluster has 2 cores" in err
    code, _, err = finish(blemish(*ask, "--device", "cuda"))
    assert code == 2
    assert "cuda" in err
