"""`blemish inspect --ray` on this machine: one against two actors of one core each, on many small synthetic images.

    python benchmarks/cluster.py --work DIR [--images 100000] [--shard 1000] [--bundle BUNDLE] [--json F]

(The file is not named ray.py: a script's folder is searched first, and `import ray` would find the script.)

The images are 64 different surfaces of 64 px, each under as many names as it takes (hard links). Without `--bundle`
the graph does next to nothing: the time is what the rest takes. `actors` 0 is `blemish inspect` in one process, with
one thread of the engine. All but `seconds` is of the time between the first results and the last. `overhead` is the
processor's time an image beyond that of `actors` 0, of driver, actors and Ray's own processes together. `growth` is
the median memory of the last tenth of that time less that of the tenth after its first quarter; of the actors, the
largest counts. Rows that --json has are not measured again.
"""

import argparse
import os
import shutil
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
import psutil
from onnx import TensorProto, helper
from runs import Row, append, kept_rows, show

from blemish.imaging.read import write_image
from blemish.inspection.bundle import write_bundle
from blemish.inspection.manifest import Decision, InputSpec, Manifest, Provenance

SIDE, ORIGINALS = 64, 64
SAMPLE_S, MIN_SAMPLES = 0.5, 4
COLUMNS = (
    "actors", "images", "shard", "seconds", "images a second", "times one actor", "CPU, ms", "overhead, ms",
    "driver, MB", "driver growth, MB", "actor, MB", "actor growth, MB",
)  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", type=Path, required=True, help="folder for images and results")
    parser.add_argument("--images", type=int, default=100_000)
    parser.add_argument("--shard", type=int, default=1000)
    parser.add_argument("--bundle", type=Path)
    parser.add_argument("--json", type=Path, help="append each row to this file as it comes")
    given = parser.parse_args()
    bundle = given.bundle or grey_bundle(given.work / "grey.blemish")
    what = {"images": given.images, "shard": given.shard, "bundle": "grey" if given.bundle is None else bundle.name}
    rows = {row["actors"]: row for row in kept_rows(given.json) if what.items() <= row.items()}
    images = None
    for actors in (0, 1, 2):
        if actors in rows:
            continue
        images = images or draw_images(given.work / "images", given.images)
        row = {"actors": actors, **what, **measure(bundle, images, given.work / "out", actors, given.shard)}
        if actors:
            row["overhead, ms"] = round(row["CPU, ms"] - rows[0]["CPU, ms"], 3)
            row["times one actor"] = round(row["images a second"] / rows.get(1, row)["images a second"], 2)
        rows[actors] = row
        append(given.json, row)
    show(COLUMNS, ({name: row.get(name, "") for name in COLUMNS} for row in rows.values()), None)


def measure(bundle: Path, images: Path, out: Path, actors: int, shard: int) -> Row:
    """Inspect all images once."""
    shutil.rmtree(out, ignore_errors=True)
    out.mkdir(parents=True)
    rows = out / "rows.jsonl"
    how = ["--json", str(rows), "--threads", "1"]
    if actors:
        how = ["--ray", "local", "--actors", str(actors), "--shard", str(shard), "--out", str(out)]
    watched = WatchedProgram([sys.executable, "-m", "blemish", "inspect", str(bundle), str(images), *how], rows)
    count = sum(1 for _ in images.glob("*/*.png"))
    finished = sorted(path.stat().st_mtime for path in out.glob("*/results/*.parquet"))
    if (len(finished) <= actors) if actors else (watched.first_row is None):
        raise SystemExit(f"{count} images in shards of {shard} are too few to measure {actors} actors")
    # Each actor has finished its first shard by then.
    begin = finished[actors - 1] if actors else watched.first_row
    end = finished[-1] if actors else watched.samples[-1].when
    inspected = count - actors * shard
    of_time = [own for own in watched.samples if begin <= own.when <= end]
    if len(of_time) < MIN_SAMPLES:
        raise SystemExit(f"{count} images take {end - begin:.1f} s: too short to measure")
    return {
        "seconds": round(watched.seconds, 1),
        "images a second": round(inspected / (end - begin), 1),
        "CPU, ms": round(1000 * (of_time[-1].cpu - of_time[0].cpu) / (inspected * span(of_time) / (end - begin)), 3),
        "driver, MB": round(max(own.driver for own in of_time) / 1e6),
        "driver growth, MB": growth([own.driver for own in of_time]),
        "actor, MB": round(max(own.actor for own in of_time) / 1e6) if actors else "",
        "actor growth, MB": growth([own.actor for own in of_time]) if actors else "",
    }


def span(samples: "list[Sample]") -> float:
    return samples[-1].when - samples[0].when


def growth(memory: list[int]) -> float:
    """MB from the tenth after the first quarter to the last tenth."""
    tenth = max(1, len(memory) // 10)
    quarter = len(memory) // 4
    return round((np.median(memory[-tenth:]) - np.median(memory[quarter : quarter + tenth])) / 1e6, 1)


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


@dataclass(frozen=True)
class Sample:
    """The processor's seconds of a program and of all that it started, until `when`; memory in bytes."""

    when: float
    cpu: float
    driver: int
    actor: int  # the largest


class WatchedProgram:
    """Runs a program to its end: its seconds, samples of it, and when the file `rows` got its first row."""

    def __init__(self, command: list[str], rows: Path) -> None:
        environment = os.environ | {"OMP_NUM_THREADS": "1", "RAY_USAGE_STATS_ENABLED": "0"}
        self.samples: list[Sample] = []
        self.first_row: float | None = None
        self._spent: dict[int, float] = {}  # by process, those that have ended too
        begin = time.time()
        self._process = subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL)
        while self._process.poll() is None:
            self._sample(rows)
            time.sleep(SAMPLE_S)
        self.seconds = time.time() - begin
        if self._process.returncode not in (0, 1, 3):
            raise SystemExit(f"{' '.join(command)} ended with code {self._process.returncode}")

    def _sample(self, rows: Path) -> None:
        driver = actor = 0
        try:
            root = psutil.Process(self._process.pid)
            processes = [root, *root.children(recursive=True)]
        except psutil.Error:
            return
        for process in processes:
            try:
                times = process.cpu_times()
                self._spent[process.pid] = times.user + times.system
                if process.pid == self._process.pid:
                    driver = process.memory_info().rss
                elif "ShardInspector" in "".join(process.cmdline()[:1]):
                    actor = max(actor, process.memory_info().rss)
            except psutil.Error:
                continue
        now = time.time()
        self.samples.append(Sample(now, sum(self._spent.values()), driver, actor))
        if self.first_row is None and rows.exists() and rows.stat().st_size:
            self.first_row = now


if __name__ == "__main__":
    main()
