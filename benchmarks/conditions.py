"""The effect of alignment and of few images on methods trained on good images: evidence for the advisor's rules.

    python benchmarks/conditions.py --data DIR [--methods patchcore,padim,dfm] [--seeds 0,1,2] [--json ROWS.jsonl]

DIR holds mvtec_ad/bottle and wood_anomaly. Conditions: `as it is`; `moved`, every training and
test image and mask shifted by up to an eighth of its sides either way, with the border replicated;
`10 good`, only so many good training images, sampled by the seed (the others are held out for thresholds).
"""

import tempfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
from measured import RowStore, arguments
from numpy.typing import NDArray
from runs import anomaly_columns

from blemish import Dataset, Inspector, evaluate, read_dataset, train
from blemish.dataset.split import ensure_splits
from blemish.dataset.write import write_csv
from blemish.imaging.read import read_image, write_image

FOLDERS = {"bottle": "mvtec_ad/bottle", "wood": "wood_anomaly"}
MOVED = 1 / 8  # of a side, at most
FEW = 10


def main() -> None:
    given = arguments(__doc__, "patchcore,padim,dfm", FOLDERS)
    rows = RowStore(given.json)
    for name in given.sets.split(","):
        for seed in map(int, given.seeds.split(",")):
            with tempfile.TemporaryDirectory() as folder:
                measure(given.data / FOLDERS[name], name, seed, given.methods.split(","), Path(folder), rows)


def measure(data: Path, name: str, seed: int, methods: list[str], folder: Path, rows: RowStore) -> None:
    """Every method under every condition, on one sample."""
    whole = ensure_splits(read_dataset(data), seed=seed)
    conditions: dict[str, Callable[[], Dataset]] = {
        "as it is": lambda: whole,
        "moved": lambda: moved(whole, folder / "moved", seed),
        f"{FEW} good": lambda: few(whole, seed),
    }
    for condition, made in conditions.items():
        wanted = {method: {"method": method, "set": name, "options": condition, "seed": seed} for method in methods}
        wanted = {method: what for method, what in wanted.items() if not rows.has(what)}
        if not wanted:
            continue
        dataset, path = made(), folder / f"{condition}.csv"
        write_csv(dataset, path)
        for method, what in wanted.items():
            run = train(path, out=folder / condition / method, method=method, seed=seed, progress=False)
            result = evaluate(Inspector.open(run), dataset.split("test"), speed=False).to_dict()
            rows.add({**what, **anomaly_columns(result)})


def few(dataset: Dataset, seed: int) -> Dataset:
    """The dataset with FEW of its good images for training and the rest for validation."""
    training = [i for i, s in enumerate(dataset.samples) if s.split == "train"]
    kept = set(np.random.default_rng(seed).permutation(training)[:FEW].tolist())
    return dataset.with_samples(
        replace(s, split="val") if s.split == "train" and i not in kept else s for i, s in enumerate(dataset.samples)
    )


def moved(dataset: Dataset, folder: Path, seed: int) -> Dataset:
    """Copies of the images and masks, each pair shifted by as much as the seed says."""
    rng = np.random.default_rng(seed)
    folder.mkdir(parents=True)
    samples = []
    for number, sample in enumerate(dataset.samples):
        image = read_image(sample.image)
        share = rng.uniform(-MOVED, MOVED, 2)
        across, down = (round(float(s) * side) for s, side in zip(share, image.shape[1::-1], strict=True))
        path, mask = folder / f"{number:04}.png", None
        write_image(path, shifted(image, across, down))
        if sample.mask is not None:
            mask = folder / f"{number:04}_mask.png"
            write_image(mask, shifted(read_image(sample.mask), across, down))
        samples.append(replace(sample, image=path, mask=mask))
    return dataset.with_samples(samples)


def shifted(image: NDArray[np.generic], across: int, down: int) -> NDArray[np.generic]:
    """(H, W, C) moved by whole pixels; the border goes on."""
    height, width = image.shape[:2]
    where = np.float32([[1, 0, across], [0, 1, down]])
    found = cv2.warpAffine(image, where, (width, height), flags=cv2.INTER_NEAREST, borderMode=cv2.BORDER_REPLICATE)
    return found.reshape(image.shape)


if __name__ == "__main__":
    main()
