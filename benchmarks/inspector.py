"""The speed of the whole inspection and of the network alone, in one run, on the same engine and threads.

    python benchmarks/inspector.py BUNDLE IMAGES_DIR [--defects 0.01] [--threads N] [--engine onnxruntime] [--json F]

`bare network` runs the graph on prepared batches in memory, two at a time like the inspector (with one thread: one).
`arrays` inspects decoded images: resize, network, map, regions, measuring, deciding. `files` also reads and decodes the
image files. `one image` inspects decoded images one after another, and its bare network runs on one image. Where the
bundle refines regions, `coarse` is the same inspection without that.
The rounds alternate, so that a busy machine disturbs all equally; differences and ratios are medians over those of each
round.

IMAGES_DIR is a dataset of any layout. With --defects the stream is drawn from it with that share of defective images,
--stream images in all: on a line nearly all parts are good. The whole set on drawn surfaces:

    blemish synth surfaces --train 60 --good 100 --defects 20
    blemish train surfaces --method patchcore --out run
    python benchmarks/inspector.py run surfaces --defects 0.01
"""

import argparse
import os
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
from geometry import take_out_refinement
from runs import show

from blemish import Inspector, read_dataset
from blemish.errors import DataError
from blemish.imaging.read import read_image


def seconds(work: Callable[[], object]) -> float:
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def draw_stream(data: str, share: float | None, count: int, seed: int) -> tuple[list[Path], float]:
    """Images of a dataset's test split (of all, where it has none) and the share that is defective."""
    dataset = read_dataset(data)
    samples = dataset.split("test").samples or dataset.samples
    defective = [bool(sample.defective) for sample in samples]
    if share is None:
        return [sample.image for sample in samples], float(np.mean(defective))
    sides = [[sample.image for sample in samples if bool(sample.defective) == side] for side in (False, True)]
    if not all(sides):
        raise DataError(f"{data} has no good or no defective images to draw a stream from")
    rng = np.random.default_rng(seed)
    kinds = rng.permutation(np.arange(count) < round(share * count))  # exactly that share, at random places
    return [sides[kind][rng.integers(len(sides[kind]))] for kind in kinds.astype(int)], float(kinds.mean())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("bundle", type=Path)
    parser.add_argument("images")
    parser.add_argument("--defects", type=float, help="share of defective images in the stream")
    parser.add_argument("--stream", type=int, default=400, help="images of that stream")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int)
    parser.add_argument("--engine", default="onnxruntime")
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--single", type=int, default=40, help="images that are inspected one by one")
    parser.add_argument("--json", type=Path, help="append each row to this file as it comes")
    arguments = parser.parse_args()
    opening = {"engine": arguments.engine, "threads": arguments.threads, "batch_size": arguments.batch}
    inspector = Inspector.open(arguments.bundle, **opening)
    paths, defective = draw_stream(arguments.images, arguments.defects, arguments.stream, arguments.seed)
    known: dict[Path, np.ndarray] = {path: read_image(path) for path in sorted(set(paths))}
    arrays = [known[path] for path in paths]
    prepared = {path: inspector.prepare(image) for path, image in known.items()}
    windows = np.concatenate([prepared[path] for path in paths])
    batches = np.split(windows, range(arguments.batch, len(windows), arguments.batch))
    alone = paths[: arguments.single]
    pool = ThreadPoolExecutor(1 if arguments.threads == 1 else 2)  # as many batches at a time as the inspector runs

    ways: dict[str, tuple[int, Callable[[], object]]] = {
        "bare network": (len(paths), lambda: list(pool.map(inspector.engine.run, batches))),
        "arrays": (len(paths), lambda: list(inspector.inspect(iter(arrays)))),
        "files": (len(paths), lambda: list(inspector.inspect(paths))),
        "one image, bare": (len(alone), lambda: [inspector.engine.run(prepared[path]) for path in alone]),
        "one image": (len(alone), lambda: [inspector.inspect(known[path]) for path in alone]),
    }
    if inspector.manifest.refinement is not None and inspector.manifest.refinement.shipped:
        with TemporaryDirectory() as folder:
            coarse = Inspector.open(take_out_refinement(arguments.bundle, Path(folder) / "coarse.blemish"), **opening)
        ways["arrays, coarse"] = (len(paths), lambda: list(coarse.inspect(iter(arrays))))
        ways["one image, coarse"] = (len(alone), lambda: [coarse.inspect(known[path]) for path in alone])
    times: dict[str, list[float]] = {name: [] for name in ways}
    for _, way in ways.values():
        way()
    for _ in range(arguments.rounds):
        for name, (count, way) in ways.items():
            times[name].append(seconds(way) / count)
    rows = []
    for name, values in times.items():
        bare = times["one image, bare" if name.startswith("one") else "bare network"]
        rows.append(
            {
                "method": inspector.manifest.provenance.method,
                "engine": inspector.engine.name,
                "threads": arguments.threads or os.cpu_count(),
                "batch": 1 if name.startswith("one") else arguments.batch,
                "images": ways[name][0],
                "defective": round(defective, 3),
                "way": name,
                "images a second": round(1 / float(np.median(values)), 1),
                "ms beyond the network": round(1000 * float(np.median(np.subtract(values, bare))), 2),
                "of the bare network": round(float(np.median(np.divide(bare, values))), 2),
            }
        )
    shown = ("way", "images", "defective", "engine", "threads", "images a second", "ms beyond the network",
             "of the bare network")  # fmt: skip
    show(shown, rows, arguments.json)


if __name__ == "__main__":
    main()
