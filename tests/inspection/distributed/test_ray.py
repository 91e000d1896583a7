"""`blemish inspect --ray`, on a real cluster: one of this machine in the default run; a head and two workers, which are
killed, among the slow tests."""

import json
import os
import signal
import socket
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


class Cluster:
    """A head that runs nothing, and workers of one core each, all processes of their own."""

    def __init__(self, folder: Path) -> None:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.address = f"127.0.0.1:{free.getsockname()[1]}"
        self._folder = folder
        self._head = self._start("--head", "--port", self.address.split(":")[1], "--include-dashboard=false", cores=0)
        self.workers = [self.add_worker() for _ in range(2)]

    def _start(self, *where: str, cores: int) -> subprocess.Popen:
        ray = Path(sys.executable).with_name("ray")
        size = ["--num-cpus", str(cores), "--object-store-memory", str(100 * 2**20)]
        log = (self._folder / f"ray-{time.monotonic_ns()}.log").open("wb")
        command = [str(ray), "start", *where, *size, "--block"]
        return subprocess.Popen(command, env=os.environ | ENVIRONMENT, stdout=log, stderr=log)

    def add_worker(self) -> subprocess.Popen:
        return self._start("--address", self.address, cores=1)

    def actors(self) -> list[psutil.Process]:
        """The processes of inspecting actors."""
        found = []
        for worker in self.workers:
            for process in processes_below(worker):
                try:
                    if "ShardInspector" in " ".join(process.cmdline()):
                        found.append(process)
                except psutil.Error:
                    continue
        return found

    def stop(self) -> None:
        for node in (*self.workers, self._head):
            kill_all(node)


def processes_below(process: subprocess.Popen) -> list[psutil.Process]:
    try:
        return psutil.Process(process.pid).children(recursive=True)
    except psutil.Error:
        return []


def kill_all(process: subprocess.Popen) -> None:
    """SIGKILL for a program and all that it started."""
    for own in (*processes_below(process), psutil.Process(process.pid)):
        try:
            own.kill()
        except psutil.Error:
            continue
    process.wait(60)


@pytest.fixture
def cluster(tmp_path):
    started = Cluster(tmp_path)
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
    wait_until(lambda: nodes(cluster.address) == 3, "the workers are there")
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
        kill_all(cluster.workers.pop())
    code, shown, err = finish(driver)
    assert code in (0, 1, 3), err
    assert "400 images" in shown
    assert ("400 inspected by this run" in shown) == (victim != "driver")
    counted = Counter(row["source"] for row in rows(out))
    assert counted == Counter(map(str, many.iterdir()))
    assert [*out.glob("*/attempts/*")] == []


def nodes(address: str) -> int:
    """Number of machines of the cluster that answer."""
    code = f"import ray; ray.init('{address}', logging_level='error'); print(sum(n['Alive'] for n in ray.nodes()))"
    asked = subprocess.run([sys.executable, "-c", code], env=os.environ | ENVIRONMENT, capture_output=True, text=True)
    return int(asked.stdout.split()[-1]) if asked.returncode == 0 else 0


@pytest.mark.slow
def test_what_a_cluster_cannot_do_is_one_line(cluster, images, tmp_path):
    bundle = anomaly_bundle(tmp_path / "grey.blemish", side=64)
    code, _, err = finish(blemish("inspect", bundle, images, "--ray", "127.0.0.1:1", "--out", tmp_path / "out"))
    assert code == 2
    assert "no Ray cluster can be used at 127.0.0.1:1" in err
    wait_until(lambda: nodes(cluster.address) == 3, "the workers are there")
    ask = ("inspect", bundle, images, "--ray", cluster.address, "--out", tmp_path / "out")
    code, _, err = finish(blemish(*ask, "--cores", 2))
    assert code == 2
    assert "no machine of the cluster has 2 cores" in err
    code, _, err = finish(blemish(*ask, "--device", "cuda"))
    assert code == 2
    assert "cuda" in err
