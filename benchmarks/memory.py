"""Peak memory of the memory bank's fit on many images.

    python benchmarks/memory.py [--images 10000] [--size 256] [--method patchcore] [--set KEY=VALUE] [--json ROWS.jsonl]

Renders brushed metal, so that nothing is downloaded, into a temporary folder. Prints the peak resident memory of
the whole process, of the interpreter with its libraries alone, and the size of the bank.
"""

import argparse
import json
import resource
import tempfile
import time
from pathlib import Path

import cv2
import numpy as np
import torch
from runs import append

from blemish.dataset.read import read_dataset
from blemish.methods.catalogue import method_class
from blemish.synthesis.surfaces import render_surface
from blemish.training.learn.fit import build_method, fit
from blemish.training.learn.options import check_options, parse_settings
from blemish.training.learn.run import RunConfig


def make_images(folder: Path, count: int, size: int) -> Path:
    """A dataset of `count` good images: crops, turns and flips of larger pieces of metal under noise of their own."""
    rng = np.random.default_rng(0)
    (folder / "good").mkdir(parents=True)
    rows = ["image,label,split"]
    for i in range(count):
        if i % 100 == 0:
            piece = render_surface("metal", rng, 2 * size)
        y, x = rng.integers(0, size, 2)
        crop = piece[y : y + size, x : x + size][:: rng.choice([-1, 1]), :: rng.choice([-1, 1])]
        grey = np.clip(crop * rng.uniform(0.95, 1.05) + rng.normal(0, 0.01, crop.shape), 0, 1)
        cv2.imwrite(str(folder / "good" / f"{i:05}.png"), (grey * 255).astype(np.uint8))
        rows.append(f"good/{i:05}.png,good,train")
    (folder / "data.csv").write_text("\n".join(rows) + "\n")
    return folder / "data.csv"


def peak_mb() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=10_000)
    parser.add_argument("--size", type=int, default=256)
    parser.add_argument("--method", default="patchcore")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE")
    parser.add_argument("--json", type=Path, help="append each row to this file as it comes")
    arguments = parser.parse_args()
    before = peak_mb()
    options = check_options(method_class(arguments.method).Options, parse_settings(arguments.set), arguments.method)
    with tempfile.TemporaryDirectory() as temporary:
        dataset = read_dataset(make_images(Path(temporary) / "data", arguments.images, arguments.size))
        config = RunConfig(
            blemish="0", data=temporary, method=arguments.method, options=options.model_dump(mode="json"),
            trainer={"accelerator": "cpu"},
        )  # fmt: skip
        method = build_method(config, dataset)
        start = time.perf_counter()
        fit(method, dataset, config, run=Path(temporary) / "run")
    row = {
        "method": arguments.method,
        "options": " ".join(arguments.set),
        "images": arguments.images,
        "fit, s": round(time.perf_counter() - start),
        "threads": torch.get_num_threads(),
        "peak MB": round(peak_mb()),
        "libraries alone MB": round(before),
        **{name: list(b.shape) for name, b in method.named_buffers() if name.startswith("bank")},
    }
    print(json.dumps(row))
    append(arguments.json, row)


if __name__ == "__main__":
    main()
