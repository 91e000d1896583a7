"""Groups the images of the magnetic tiles (Huang et al. 2018) by tile, by a rule over the names of their files.

A name such as exp3_num_116541 holds an exposure and a running number. Within a class, in the order of the numbers, the
exposures run from 1 to 6 a few dozen numbers apart and then begin again: 194 of the 255 runs that the rule finds have
six images. Neighbours within a run are alike (median correlation of their standardised 32 x 32 thumbnails 0.97) where
the last of a run and the first of the next are not (0.42). The data set itself does not say which images belong
together, so this is an inference; a gap of 100 or 300 in place of 150 gives 261 or 248 runs.

Runs of different classes whose numbers overlap are joined, for a defect does not show under every exposure, and the
tile is then filed as good: 243 groups.
"""

import re
from dataclasses import replace
from itertools import pairwise

from blemish import Dataset, Sample
from blemish.dataset.split import ensure_splits

GAP = 150  # of the numbers of two images of one tile, at most
NAME = re.compile(r"exp(\d+)_num_(\d+)")


def group_by_tile(dataset: Dataset) -> Dataset:
    """The dataset with each image's tile as its group."""
    joined: list[list[Sample]] = []
    last = -1
    for run in sorted(runs(dataset), key=lambda run: number(run[0])):
        if number(run[0]) > last:
            joined.append([])
        joined[-1] += run
        last = max(last, number(run[-1]))
    tile = {sample.image: f"tile {number(group[0])}" for group in joined for sample in group}
    return dataset.with_samples(replace(s, group=tile[s.image]) for s in dataset.samples)


def split_by_tile(dataset: Dataset, seed: int = 0) -> Dataset:
    """60/20/20 by tiles, whatever splits the dataset brings."""
    free = dataset.with_samples(replace(s, split=None) for s in group_by_tile(dataset).samples)
    return ensure_splits(free, seed=seed, need_defects_in_training=True)


def runs(dataset: Dataset) -> list[list[Sample]]:
    """Images of one class with rising exposures and near numbers, in the order of these."""
    found = []
    for name in dataset.classes:
        own = sorted((s for s in dataset.samples if s.label == name), key=lambda s: (number(s), exposure(s)))
        found.append(own[:1])
        for before, sample in pairwise(own):
            if exposure(sample) <= exposure(before) or number(sample) - number(before) > GAP:
                found.append([])
            found[-1].append(sample)
    return found


def exposure(sample: Sample) -> int:
    return parts(sample)[0]


def number(sample: Sample) -> int:
    return parts(sample)[1]


def parts(sample: Sample) -> tuple[int, int]:
    found = NAME.search(sample.image.stem)
    if found is None:
        raise ValueError(f"{sample.image} is not named as the magnetic tiles are")
    return int(found[1]), int(found[2])
