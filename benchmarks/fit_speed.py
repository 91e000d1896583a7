"""Trainings that keep what they need again, compared with trainings that keep nothing.

    python benchmarks/fit_speed.py --data DIR [--methods stfpm,fastflow] [--sets mpdd_metal_plate] [--seeds 0]
                                   [--steps 60] [--json F]

DIR holds mpdd_metal_plate. The trainings of a method are alike and follow one another, each in a process of its own:
one keeps nothing, one the memory that a step frees, one also prepared images and features of fixed networks
(`--cache-mb`). `fit` is from the files of the data set to the export. The bundles are evaluated on the test images. A
row that --json has is not measured again.
"""

import tempfile
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from contextlib import AbstractContextManager, nullcontext
from multiprocessing import get_context
from pathlib import Path
from unittest.mock import patch

import torch
from runs import Row, append, cases, kept_rows, options_text, parse_options, parser, show, train_once
from table import SETS

from blemish import Inspector, evaluate, read_dataset
from blemish.training.learn import fit
from blemish.training.learn.kept_memory import kept_memory
from blemish.training.learn.run import DEFAULT_CACHE_MB

COLUMNS = (
    "method", "set", "steps", "threads", "fit, nothing kept, s", "fit, memory kept, s", "fit, all kept, s",
    "times as fast", "image AUROC, nothing kept", "image AUROC, all kept",
)  # fmt: skip
METHODS = ("stfpm", "fastflow", "reverse-distillation", "supersimplenet")
Way = tuple[Callable[[], AbstractContextManager[None]], int]  # how memory is kept, and the MB for images and features
WAYS: dict[str, Way] = {
    "nothing kept": (nullcontext, 0),
    "memory kept": (kept_memory, 0),
    "all kept": (kept_memory, DEFAULT_CACHE_MB),
}


def main() -> None:
    arguments = parser(__doc__, METHODS, ("mpdd_metal_plate",))
    arguments.add_argument("--steps", type=int, default=60)
    given = arguments.parse_args()
    rows = kept_rows(given.json)
    new = []
    for method, name, seed in cases(given):
        case = {
            "method": method,
            "set": SETS.get(name, Path(name).name),
            "seed": seed,
            "steps": given.steps,
            "threads": torch.get_num_threads(),
            "options": options_text(parse_options(given)),
        }
        if any(case.items() <= row.items() for row in rows):
            continue
        options = {"steps": given.steps, **parse_options(given)}
        with tempfile.TemporaryDirectory() as folder:
            row = case | measure(given.data / name, method, seed, Path(folder), options)
        append(given.json, row)
        new.append(row)
    show(COLUMNS, new, None)


def measure(path: Path, method: str, seed: int, folder: Path, options: Row) -> Row:
    """One training each way, and how its bundle ranks the test images."""
    row: Row = {}
    for way in reversed(WAYS):  # so that the system has the files in memory for the one that is compared with
        # What an earlier training has left in the allocator would be memory that is kept.
        with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as process:
            row |= process.submit(train_and_evaluate, way, path, method, seed, folder, options).result()
    first, last = (row[f"fit, {way}, s"] for way in ("nothing kept", "all kept"))
    return {**row, "times as fast": round(first / last, 2)}


def train_and_evaluate(way: str, path: Path, method: str, seed: int, folder: Path, options: Row) -> Row:
    keeping, cache_mb = WAYS[way]
    with patch.object(fit, "kept_memory", keeping):
        run = train_once(
            path, method, path.name, seed, folder / way, None, options=options, cache_mb=cache_mb,
            calibration="held-out", refine="off",
        )  # fmt: skip
    metrics = evaluate(Inspector.open(run.folder), read_dataset(path).split("test"), speed=False).metrics
    return {
        f"fit, {way}, s": round(run.fit, 1),
        f"CPU, {way}, s": round(run.fit_cpu, 1),
        f"image AUROC, {way}": round(metrics.image.auroc.value, 4),
    }


if __name__ == "__main__":
    main()
