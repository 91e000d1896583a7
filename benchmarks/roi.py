"""A part that moves in a larger picture: the whole image classified, or the part located in it and then classified.

    python benchmarks/roi.py --data DIR [--methods classifier] [--sets bottle,pill] [--seeds 0,1,2] [--json ROWS.jsonl]

DIR holds mvtec_ad/bottle and mvtec_ad/pill. Half of the defective test images of each kind, drawn by the seed, join
the good training images; the other half and the good test images are the test. Conditions: `as it is`; `moved, whole
image`, each image turned by any angle at any place of a picture of twice its sides, in the colour of its border;
`moved, part located`, the same pictures with the part found as a blob, upright, as the region of interest.
"""

import tempfile
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
from measured import RowStore, arguments
from numpy.typing import NDArray
from runs import Row, image_columns

from blemish import Dataset, Inspector, evaluate, read_dataset, train
from blemish.dataset.sample import GOOD
from blemish.dataset.split import ensure_splits
from blemish.dataset.write import write_csv
from blemish.imaging.read import read_image, write_image
from blemish.imaging.roi import BlobLocator, Roi

BLOBS = {"bottle": "dark", "pill": "bright"}  # the part beside its background
LARGER = 2  # sides of the picture, in those of the image


def main() -> None:
    given = arguments(__doc__, "classifier", BLOBS)
    rows = RowStore(given.json)
    for name in given.sets.split(","):
        for seed in map(int, given.seeds.split(",")):
            with tempfile.TemporaryDirectory() as folder:
                measure(given.data / "mvtec_ad" / name, name, seed, given.methods.split(","), Path(folder), rows)


def measure(data: Path, name: str, seed: int, methods: list[str], folder: Path, rows: RowStore) -> None:
    still = ensure_splits(with_defects(read_dataset(data), seed), seed=seed)
    roving = moved(still, folder / "moved", seed)
    roi = Roi(blob=BlobLocator(side=BLOBS[name], valid="hull", upright=True, margin=4))
    conditions = {
        "as it is": (still, None),
        "moved, whole image": (roving, None),
        "moved, part located": (roving, roi),
    }
    for condition, (dataset, region) in conditions.items():
        path = folder / f"{condition}.csv"
        write_csv(dataset, path)
        for method in methods:
            what = {"method": method, "set": name, "options": condition, "seed": seed}
            if rows.has(what):
                continue
            run = train(path, out=folder / condition / method, method=method, roi=region, seed=seed, progress=False)
            result = evaluate(Inspector.open(run), dataset.split("test"), speed=False).to_dict()
            rows.add({**what, **columns(result)})


def with_defects(dataset: Dataset, seed: int) -> Dataset:
    """Half of the defective test images of each kind in training; masks are left out, only classes are taught."""
    rng, taken = np.random.default_rng(seed), set()
    for kind in sorted({str(s.label) for s in dataset.samples if s.label != GOOD}):
        indices = [i for i, s in enumerate(dataset.samples) if s.label == kind]
        taken.update(rng.permutation(indices)[: len(indices) // 2].tolist())
    return dataset.with_samples(
        replace(s, split="train" if i in taken else s.split, mask=None) for i, s in enumerate(dataset.samples)
    )


def moved(dataset: Dataset, folder: Path, seed: int) -> Dataset:
    """Pictures in which the images lie turned, each at a place of its own."""
    rng = np.random.default_rng(seed)
    folder.mkdir(parents=True)
    samples = []
    for number, sample in enumerate(dataset.samples):
        path = folder / f"{number:04}.png"
        write_image(path, laid(read_image(sample.image), float(rng.uniform(0, 360)), rng.uniform(0, 1, 2)))
        samples.append(replace(sample, image=path))
    return dataset.with_samples(samples)


def laid(image: NDArray[np.generic], degrees: float, place: NDArray[np.float64]) -> NDArray[np.generic]:
    """An image (H, W, C) turned about its centre, which lies at that share, x and y, of where the whole of it fits."""
    height, width = image.shape[:2]
    rows, columns = LARGER * height, LARGER * width
    border = np.concatenate([image[0], image[-1], image[:, 0], image[:, -1]])
    turn = cv2.getRotationMatrix2D((width / 2, height / 2), degrees, 1.0)
    reach = np.hypot(width, height) / 2
    turn[:, 2] += reach + place * (np.array([columns, rows]) - 2 * reach) - np.array([width, height]) / 2
    found = cv2.warpAffine(
        image, turn, (columns, rows), flags=cv2.INTER_LINEAR, borderValue=np.median(border, axis=0).tolist()
    )
    return found.reshape(rows, columns, -1)


def columns(result: Row) -> Row:
    classes = result["classes"]
    return {
        **image_columns(result),
        "accuracy": round(classes["accuracy"]["value"], 4),
        "macro F1": round(classes["macro_f1"], 4),
    }


if __name__ == "__main__":
    main()
