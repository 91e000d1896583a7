"""Input size, tiling and channels: evidence for the advisor's rules on long, large and multi-channel images.

    python benchmarks/views.py --data DIR [--sets long,fine,large,channels] [--methods patchcore] [--seeds 0,1,2]

DIR holds mvtec_ad/bottle and wood_anomaly, of whose images other ones are made by the seed, with the same split:

long      the middle of each bottle, 512 by 192 px; stretched to the network's square, with bars around it, or in square
          tiles. A bottle whose defects lie elsewhere is left out.
fine      two by two pictures of wood as one of 512 px, the test images each with one of the set's own and three good
          ones; seen at 256 px, and at the side that the rule on small defects takes.
large     five by five of them, 1280 px; seen whole at 256 and 512 px, in the tiles of the rule on tiny defects, which
          knows how small they are, and in those of the rule on large images, which does not.
channels  bottles with four channels, three of another, good bottle and the fourth of the image's own light; all of
          them in training, or the first three.
"""

import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from measured import RowStore, arguments
from numpy.typing import NDArray
from runs import anomaly_columns

from blemish import Dataset, Inspector, Sample, evaluate, read_dataset, train
from blemish.dataset.fingerprint import Fingerprint, fingerprint
from blemish.dataset.ground_truth import read_defect_mask
from blemish.dataset.split import ensure_splits
from blemish.dataset.write import write_csv
from blemish.imaging.read import read_image, write_image
from blemish.training.advice.rules import RULES

BAND = 192  # px, height of a long image
COUNTS = {"train": 56, "val": 14}  # pictures put together
LARGE_COUNTS = {"train": 20, "val": 10}
OVERLAP = 0.25  # of tiles, as `blemish train --tile` takes it


@dataclass(frozen=True)
class Way:
    """One way to view the images: its name, the images, and the settings of the run and options of the method."""

    name: str
    dataset: Dataset
    settings: dict[str, Any]
    options: dict[str, Any]


def main() -> None:
    given = arguments(__doc__, "patchcore", SETS)
    rows = RowStore(given.json)
    for name in given.sets.split(","):
        for seed in map(int, given.seeds.split(",")):
            with tempfile.TemporaryDirectory() as folder:
                for way in SETS[name](given.data, seed, Path(folder)):
                    for method in given.methods.split(","):
                        measure(way, method, name, seed, Path(folder), rows)


def measure(way: Way, method: str, name: str, seed: int, folder: Path, rows: RowStore) -> None:
    what = {"method": method, "set": name, "options": way.name, "seed": seed}
    if rows.has(what):
        return
    path = folder / f"{way.name}.csv"
    write_csv(way.dataset, path)
    run = train(
        path, out=folder / way.name / method, method=method, seed=seed, options=way.options, progress=False,
        **way.settings,
    )  # fmt: skip
    result = evaluate(Inspector.open(run), way.dataset.split("test")).to_dict()
    rows.add({**what, **anomaly_columns(result), "ms an image": round(result["speed"]["latency_ms"]["median"], 1)})


def long(data: Path, seed: int, folder: Path) -> Iterator[Way]:
    whole = ensure_splits(read_dataset(data / "mvtec_ad" / "bottle"), seed=seed)
    samples = []
    for number, sample in enumerate(whole.samples):
        image = read_image(sample.image)
        top = (image.shape[0] - BAND) // 2
        mask = read_defect_mask(sample, image.shape[:2])[top : top + BAND] if sample.defective else None
        if mask is None or mask.any():
            samples.append(written(folder / "long", number, image[top : top + BAND], mask, sample))
    bands = whole.with_samples(samples)
    for fit in ("stretch", "letterbox"):
        yield Way(fit, bands, {"fit": fit}, {})
    yield Way(f"tiles of {BAND} px", bands, {"tiling": tiling(BAND)}, {})


def fine(data: Path, seed: int, folder: Path) -> Iterator[Way]:
    dataset = put_together(data, 2, COUNTS, seed, folder / "fine")
    yield Way("256 px", dataset, {}, {"image_size": 256})
    side = rule_settings("small defects", fingerprint(dataset))["image_size"]
    yield Way(f"{side} px, by the rule", dataset, {}, {"image_size": side})


def large(data: Path, seed: int, folder: Path) -> Iterator[Way]:
    dataset = put_together(data, 5, LARGE_COUNTS, seed, folder / "large")
    for side in (256, 512):
        yield Way(f"{side} px", dataset, {}, {"image_size": side})
    found = fingerprint(dataset)
    for rule, known in (("tiny defects", found), ("large images", replace(found, small_defect_side=None))):
        settings = rule_settings(rule, known)
        side = settings["tile"]
        yield Way(
            f"tiles of {side} px, by the rule on {rule}", dataset, {"tiling": tiling(side)},
            {"image_size": settings["image_size"]},
        )  # fmt: skip


def channels(data: Path, seed: int, folder: Path) -> Iterator[Way]:
    whole = ensure_splits(read_dataset(data / "mvtec_ad" / "bottle"), seed=seed)
    good = [s for s in whole.samples if s.split == "train"]
    rng = np.random.default_rng(seed)
    four, three = [], []
    for number, sample in enumerate(whole.samples):
        image = read_image(sample.image)
        other = read_image(good[int(rng.integers(len(good)))].image)
        light = image.mean(axis=2, keepdims=True).round().astype(np.uint8)
        mask = read_defect_mask(sample, image.shape[:2]) if sample.defective else None
        four.append(written(folder / "four", number, np.concatenate([other, light], axis=2), mask, sample))
        three.append(written(folder / "three", number, other, mask, sample))
    yield Way("all four", whole.with_samples(four), {}, {})
    yield Way("the first three", whole.with_samples(three), {}, {})


SETS: dict[str, Callable[[Path, int, Path], Iterator[Way]]] = {
    "long": long,
    "fine": fine,
    "large": large,
    "channels": channels,
}


def tiling(side: int) -> dict[str, Any]:
    return {"height": side, "width": side, "overlap": OVERLAP}


def rule_settings(name: str, found: Fingerprint) -> dict[str, Any]:
    """The settings of a rule for these images; ends the program where its condition does not hold."""
    rule = next(r for r in RULES if r.name == name)
    if not rule.when(found) or rule.settings is None:
        raise SystemExit(f"the rule '{name}' does not hold for these images")
    return rule.settings(found)


def put_together(data: Path, side: int, counts: dict[str, int], seed: int, folder: Path) -> Dataset:
    """Pictures of `side` by `side` images of wood; each test image is in one of them, at a position chosen by the seed.

    The others of a test picture are good test images.
    """
    whole = ensure_splits(read_dataset(data / "wood_anomaly"), seed=seed)
    rng = np.random.default_rng(seed)
    samples: list[Sample] = []
    for split in ("train", "val", "test"):
        own = [s for s in whole.samples if s.split == split]
        good = [s for s in own if not s.defective]
        firsts = own if split == "test" else [good[i % len(good)] for i in range(counts[split])]
        for first in firsts:
            parts = [good[int(i)] for i in rng.integers(len(good), size=side * side)]
            parts[int(rng.integers(len(parts)))] = first
            image, mask = tiled(parts, side)
            samples.append(written(folder, len(samples), image, mask if first.defective else None, first))
    return whole.with_samples(samples)


def tiled(parts: list[Sample], side: int) -> tuple[NDArray[Any], NDArray[np.bool_]]:
    images = [read_image(s.image) for s in parts]
    masks = [
        read_defect_mask(s, image.shape[:2]) if s.defective else np.zeros(image.shape[:2], bool)
        for s, image in zip(parts, images, strict=True)
    ]
    rows = [slice(i * side, (i + 1) * side) for i in range(side)]
    return (
        np.concatenate([np.concatenate(images[r], axis=1) for r in rows]),
        np.concatenate([np.concatenate(masks[r], axis=1) for r in rows]),
    )


def written(folder: Path, number: int, image: NDArray[Any], mask: NDArray[np.bool_] | None, sample: Sample) -> Sample:
    """The sample with this picture and mask in place of its own."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{number:04}.{'png' if image.shape[2] in (1, 3) else 'tif'}"
    write_image(path, image)
    marked = None
    if mask is not None:
        marked = folder / f"{number:04}_mask.png"
        write_image(marked, mask)
    return replace(sample, image=path, mask=marked, group=None)


if __name__ == "__main__":
    main()
