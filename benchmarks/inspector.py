"""The speed of the whole inspection and of the network alone, in one run, on the same engine and threads.

    python benchmarks/inspector.py BUNDLE IMAGES_DIR [--threads N] [--engine onnxruntime] [--rounds 5] [--json F]

`bare network` runs the graph on prepared batches in memory. `arrays` inspects decoded images: resize, network, map,
regions, measuring, deciding. `files` also reads and decodes the image files. The rounds alternate, so that a busy
machine disturbs all equally; medians are given.
"""

import argparse
import os
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
from runs import show

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
    show(("way", "images", "engine", "threads", "images a second", "of the bare network"), rows, arguments.json)


if __name__ == "__main__":
    main()
