"""The whole inspection beside the bare network, in one run, on the same engine and threads.

    python benchmarks/inspector.py BUNDLE IMAGES_DIR [--threads N] [--engine onnxruntime] [--rounds 5] [--json F]

`bare` runs the graph on prepared batches that lie in memory. `arrays` inspects decoded images: resize, network, map,
regions, measuring, deciding. `files` reads and decodes the image files as well. The rounds take turns, so that a noisy
machine disturbs all alike; medians are given.
"""

import argparse
import json
import os
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.table import Table

from blemish import Inspector
from blemish.dataset.image_files import list_images
from blemish.imaging.read import read_image


def seconds(work: Callable[[], object]) -> float:
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("bundle", type=Path)
    parser.add_argument("images", type=Path)
    parser.add_argument("--threads", type=int)
    parser.add_argument("--engine", default="onnxruntime")
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--json", type=Path, help="append each row to this file as it comes")
    arguments = parser.parse_args()
    inspector = Inspector.open(
        arguments.bundle, engine=arguments.engine, threads=arguments.threads, batch_size=arguments.batch
    )
    paths = list_images(arguments.images, deep=True)
    arrays = [read_image(path) for path in paths]
    windows = np.concatenate([inspector.prepare(array) for array in arrays])
    batches = np.split(windows, range(arguments.batch, len(windows), arguments.batch))

    ways: dict[str, Callable[[], object]] = {
        "bare network": lambda: [inspector.engine.run(batch) for batch in batches],
        "arrays": lambda: list(inspector.inspect(iter(arrays))),
        "files": lambda: list(inspector.inspect(paths)),
    }
    times: dict[str, list[float]] = {name: [] for name in ways}
    for way in ways.values():
        way()
    for _ in range(arguments.rounds):
        for name, way in ways.items():
            times[name].append(seconds(way))
    bare = float(np.median(times["bare network"]))
    table = Table("", "images a second", "of the bare network")
    rows = [
        {
            "method": inspector.manifest.provenance.method,
            "engine": inspector.engine.name,
            "threads": arguments.threads or os.cpu_count(),
            "batch": arguments.batch,
            "images": len(paths),
            "way": name,
            "images a second": round(len(paths) / float(np.median(values)), 1),
            "of the bare network": round(bare / float(np.median(values)), 2),
        }
        for name, values in times.items()
    ]
    for row in rows:
        table.add_row(str(row["way"]), str(row["images a second"]), str(row["of the bare network"]))
    Console().print(f"{len(paths)} images, {inspector.engine.name}, threads {arguments.threads or 'all'}", table)
    if arguments.json is not None:
        with arguments.json.open("a") as stream:
            stream.writelines(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)


if __name__ == "__main__":
    main()
