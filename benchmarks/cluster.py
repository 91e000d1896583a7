"""`blemish inspect --ray` on this machine: one against two actors of one core each, on many small synthetic images.

    python benchmarks/cluster.py --work DIR [--images 100000] [--shard 1000] [--bundle BUNDLE] [--json F]

(The file is not named ray.py: a script's folder is searched first, and `import ray` would find the script.)

The images are 64 different surfaces of 64 px, each under as many names as it takes (hard links). Without `--bundle`
the graph does next to nothing: the time is what the rest takes. `actors` 0 is the plain inspector in one process, with
one thread of the engine. `overhead` is the processor's time an image beyond that of the plain inspector, of driver,
actors and Ray's own processes together. `memory` is the largest resident memory of an actor in the second half of the
run as a multiple of that in the first half: 1.00 is flat.
"""

import argparse
import os
import shutil
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import onnx
import psutil
from onnx import TensorProto, helper
from runs import show

from blemish.imaging.read import write_image
from blemish.inspection.bundle import write_bundle
from blemish.inspection.manifest import Decision, InputSpec, Manifest, Provenance

SIDE, ORIGINALS = 64, 64


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", type=Path, required=True, help="empty folder for images and results")
    parser.add_argument("--images", type=int, default=100_000)
    parser.add_argument("--shard", type=int, default=1000)
    parser.add_argument("--bundle", type=Path)
    parser.add_argument("--json", type=Path, help="append each row to this file as it comes")
    arguments = parser.parse_args()
    images = draw_images(arguments.work / "images", arguments.images)
    bundle = arguments.bundle or grey_bundle(arguments.work / "grey.blemish")
    rows, alone = [], 0.0
    for actors in (0, 1, 2):
        out = arguments.work / f"out-{actors}"
        shutil.rmtree(out, ignore_errors=True)
        out.mkdir(parents=True)
        where = ["--json", str(out / "rows.jsonl"), "--threads", "1"]
        if actors:
            where = ["--ray", "local", "--actors", str(actors), "--shard", str(arguments.shard), "--out", str(out)]
        watched = WatchedProgram([sys.executable, "-m", "blemish", "inspect", str(bundle), str(images), *where])
        alone = alone or watched.cpu_seconds
        first, second = watched.actor_memory()
        inspecting = watched.inspecting_seconds(out) or watched.seconds
        rows.append(
            {
                "actors": actors,
                "images": arguments.images,
                "shard": arguments.shard,
                "bundle": "grey" if arguments.bundle is None else arguments.bundle.name,
                "seconds": round(watched.seconds, 1),
                "of them inspecting": round(inspecting, 1),
                "images a second": round(arguments.images / inspecting, 1),
                "overhead, ms": round(1000 * (watched.cpu_seconds - alone) / arguments.images, 3),
                "actor, MB": round(second / 1e6),
                "memory": round(second / first, 2) if first else "",
            }
        )
    show(
        ("actors", "images", "seconds", "images a second", "overhead, ms", "actor, MB", "memory"), rows, arguments.json
    )


def draw_images(folder: Path, count: int) -> Path:
    """`count` names of a few images."""
    rng = np.random.default_rng(0)
    originals = folder.with_name("originals")
    for i in range(ORIGINALS):
        image = np.full((SIDE, SIDE, 3), 40, np.uint8) + rng.integers(0, 40, (SIDE, SIDE, 1), np.uint8)
        image[20:30, 20:40] += np.uint8(3 * (i % 32))
        write_image(originals / f"{i:02}.png", image)
    shutil.rmtree(folder, ignore_errors=True)
    for number in range(count):
        place = folder / f"{number // 1000:06}"
        place.mkdir(parents=True, exist_ok=True)
        os.link(originals / f"{number % ORIGINALS:02}.png", place / f"{number:09}.png")
    return folder


def grey_bundle(path: Path) -> Path:
    """A graph whose map is the grey image itself: what a network takes is left out."""
    nodes = [
        helper.make_node("ReduceMean", ["images"], ["anomaly_map"], axes=[1], keepdims=0),
        helper.make_node("ReduceMax", ["anomaly_map"], ["anomaly_score"], axes=[1, 2], keepdims=0),
    ]
    inputs = [helper.make_tensor_value_info("images", TensorProto.FLOAT, ["n", 3, SIDE, SIDE])]
    outputs = [
        helper.make_tensor_value_info("anomaly_score", TensorProto.FLOAT, ["n"]),
        helper.make_tensor_value_info("anomaly_map", TensorProto.FLOAT, ["n", SIDE, SIDE]),
    ]
    graph = helper.make_graph(nodes, "grey", inputs, outputs)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.checker.check_model(model)
    provenance = Provenance(
        created="2024-01-01T00:00:00+00:00", blemish="0", method="grey", paper="none", options={}, seed=0, data={},
        versions={}, config_sha256="",
    )  # fmt: skip
    manifest = Manifest(
        name="grey",
        classes=["good", "defect"],
        outputs=["anomaly_score", "anomaly_map"],
        input=InputSpec(channels=3, height=SIDE, width=SIDE),
        decision=Decision(review=0.5, reject=0.6, map_low=0.4, map_high=0.5),
        provenance=provenance,
    )
    return write_bundle(path, model.SerializeToString(), manifest)


class WatchedProgram:
    """Runs a program to its end: seconds, processor time of it and of all that it started, memory of actors."""

    def __init__(self, command: list[str]) -> None:
        environment = os.environ | {"OMP_NUM_THREADS": "1", "RAY_USAGE_STATS_ENABLED": "0"}
        self._times: dict[int, float] = {}
        self._memory: list[tuple[float, int]] = []
        begin = time.perf_counter()
        self._process = subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL)
        watcher = threading.Thread(target=self._watch, daemon=True)
        watcher.start()
        code = self._process.wait()
        self.seconds = time.perf_counter() - begin
        watcher.join()
        if code not in (0, 1, 3):
            raise SystemExit(f"{' '.join(command)} ended with code {code}")
        self.cpu_seconds = sum(self._times.values())

    def _watch(self) -> None:
        root = psutil.Process(self._process.pid)
        while self._process.poll() is None:
            try:
                processes = [root, *root.children(recursive=True)]
            except psutil.Error:
                break
            for process in processes:
                try:
                    spent = process.cpu_times()
                    self._times[process.pid] = spent.user + spent.system
                    if "ShardInspector" in "".join(process.cmdline()[:1]):
                        self._memory.append((time.perf_counter(), process.memory_info().rss))
                except psutil.Error:
                    continue
            time.sleep(0.5)

    def actor_memory(self) -> tuple[int, int]:
        """The largest memory of an actor in bytes, in the first and the second half of the time that there were any."""
        if not self._memory:
            return 0, 0
        middle = (self._memory[0][0] + self._memory[-1][0]) / 2
        halves = [[size for when, size in self._memory if (when >= middle) == later] for later in (False, True)]
        return max(halves[0], default=0), max(halves[1], default=0)

    def inspecting_seconds(self, out: Path) -> float:
        """From the first results file to the last, with as much more as a shard takes."""
        times = sorted(path.stat().st_mtime for path in out.glob("*/results/*.parquet"))
        return (times[-1] - times[0]) * len(times) / (len(times) - 1) if len(times) > 1 else 0.0


if __name__ == "__main__":
    main()
