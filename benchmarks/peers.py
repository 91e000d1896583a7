"""Methods of blemish and of anomalib side by side: the same images, ResNet-18, steps and threads, in one run.

    python benchmarks/peers.py --data DIR --peer PYTHON --weights FILE [--methods padim,stfpm] [--steps 100] [--json F]

DIR holds mvtec_ad/bottle and mvtec_ad/pill, PYTHON is the interpreter of an environment of the peer's own (see
peer_anomalib.py), FILE has the weights of a ResNet-18 (safetensors, timm's names). Methods that learn by steps take
--steps of --batch images on either side, the others one pass; all other options are each side's own defaults, but for
PatchCore's bank, 1 % on either side, and FastFlow's feature maps, the peer's. Ours learns from four fifths of the
good images and keeps the others for its thresholds, the peer from all. Maps of either side are compared with the
annotated masks by the same functions, enlarged to the size of the image. Ours is timed on the shipped graph, the peer
on its torch network; the size is that of the bundle and of the peer's saved tensors. Times want a machine with
nothing else running. A row that --json has is not measured again.
"""

import argparse
import json
import resource
import subprocess
import tempfile
import time
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

import cv2
import numpy as np
import torch
from runs import FitTimer, Row, append, cases, kept_rows, parser, show
from sklearn.metrics import roc_auc_score

from blemish import Inspector, evaluate, read_dataset, train
from blemish.dataset.sample import Sample
from blemish.evaluation.pixel_metrics import PixelScores, pixel_metrics, split_scores
from blemish.imaging.read import image_header, read_mask

METHODS = ("patchcore", "padim", "dfm", "stfpm", "fastflow", "supersimplenet", "reverse-distillation")
ONE_PASS = ("patchcore", "padim", "dfm")
SETS = ("mvtec_ad/bottle", "mvtec_ad/pill")
SAME: dict[str, Row] = {"fastflow": {"strides": (4, 8, 16)}}  # options of ours that the peer's defaults ask for
FIGURES = ("image AUROC", "pixel AP", "AUPRO")
COSTS = ("fit, s", "ms an image", "peak MB", "MB")


def main() -> None:
    arguments = parser(__doc__, METHODS, SETS)
    arguments.add_argument("--peer", required=True, help="python of the environment that holds anomalib")
    arguments.add_argument("--weights", type=Path, required=True, help="ResNet-18, safetensors in timm's names")
    arguments.add_argument("--steps", type=int, default=100)
    arguments.add_argument("--batch", type=int, default=8)
    given = arguments.parse_args()
    kept, new = kept_rows(given.json), []
    for method, name, seed in cases(given):
        steps = 0 if method in ONE_PASS else given.steps
        case: Row = {"method": method, "set": Path(name).name, "seed": seed, "steps": steps, "batch": given.batch}
        if any(case.items() <= row.items() for row in kept):
            continue
        with tempfile.TemporaryDirectory() as folder:
            # Each side in a process of its own, so that the peak of the memory is its own too.
            with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as process:
                ours = process.submit(measure_ours, case, given.data / name, given.weights, Path(folder)).result()
            peer = measure_peer(given, case, given.data / name, Path(folder) / "peer")
        ratios = {column: f"{peer[column] / ours[column]:.1f} x" for column in COSTS}
        ratios |= {column: f"{ours[column] - peer[column]:+.4f}" for column in FIGURES}
        for program, row in (("blemish", ours), ("anomalib", peer), ("beside", ratios)):
            new.append({**case, "program": program, **row})
            append(given.json, new[-1])
    show(("method", "set", "steps", "program", *FIGURES, *COSTS), new, None)


def measure_ours(case: Row, path: Path, weights: Path, folder: Path) -> Row:
    options: Row = {"backbone": "resnet18", "weights": str(weights), "batch_size": case["batch"], "image_size": 256}
    options |= SAME.get(case["method"], {})
    if case["steps"]:
        options["steps"] = case["steps"]
    with FitTimer() as timer:
        run = train(
            path, out=folder / "ours", method=case["method"], options=options, seed=case["seed"], progress=False,
            calibration="held-out", refine="off",
        )  # fmt: skip
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    inspector, test = Inspector.open(run, threads=torch.get_num_threads()), read_dataset(path).split("test")
    inspector.engine.run(inspector.prepare(test.samples[0]))
    taken = []
    for image in map(inspector.prepare, test.samples):
        begin = time.perf_counter()
        inspector.engine.run(image)
        taken.append(time.perf_counter() - begin)
    found = evaluate(inspector, test, speed=False).to_dict()
    return {
        "image AUROC": round(found["image"]["auroc"]["value"], 4),
        "pixel AP": round(found["pixel"]["ap"], 4),
        "AUPRO": round(found["pixel"]["aupro"], 4),
        "fit, s": round(timer.wall_s, 1),
        "ms an image": round(1000 * float(np.median(taken)), 1),
        "peak MB": round(peak),
        "MB": round(next(run.glob("*.blemish")).stat().st_size / 1e6, 1),
        "threads": torch.get_num_threads(),
    }


def measure_peer(given: argparse.Namespace, case: Row, path: Path, folder: Path) -> Row:
    script = Path(__file__).with_name("peer_anomalib.py")
    what = (case["method"], path, given.weights, case["steps"], case["batch"], folder, torch.get_num_threads())
    command = [given.peer, "-W", "ignore", str(script), *map(str, what)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(done.stderr[-2000:])
    costs = json.loads(done.stdout.splitlines()[-1])
    scores = json.loads((folder / "scores.json").read_text())
    tests = read_dataset(path).split("test").samples
    samples = {str(sample.image.relative_to(path / "test")): sample for sample in tests}
    if samples.keys() != scores.keys():
        raise SystemExit(f"the peer has other test images of {path}")
    with np.load(folder / "maps.npz") as maps:
        pixels = pixel_metrics([score_pixels(maps[key], sample) for key, sample in samples.items()])
    assert pixels is not None
    truth = [sample.defective for sample in samples.values()]
    return {
        "image AUROC": round(float(roc_auc_score(truth, [scores[key] for key in samples])), 4),
        "pixel AP": round(pixels.ap, 4),
        "AUPRO": round(pixels.aupro, 4),
        "fit, s": round(costs["fit_s"], 1),
        "ms an image": round(costs["ms_per_image"], 1),
        "peak MB": round(costs["peak_mb"]),
        "MB": round(costs["size_mb"], 1),
        "threads": costs["threads"],
    }


def score_pixels(heat: np.ndarray, sample: Sample) -> PixelScores:
    size = image_header(sample.image).size  # height, width
    mask = np.zeros(size, bool) if sample.mask is None else read_mask(sample.mask, size)
    return split_scores(cv2.resize(heat, size[::-1], interpolation=cv2.INTER_LINEAR), mask)


if __name__ == "__main__":
    main()
