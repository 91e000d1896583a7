"""Training, validation and test sets: those that the data bring, and fair ones where they bring none."""

from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

import numpy as np

from blemish.dataset.sample import GOOD, Dataset, Sample
from blemish.dataset.synthetic_samples import exclude_sources, split_synthetic
from blemish.errors import DataError

Shares = dict[str, float]
_Stratum = tuple[str, str]  # product and label


@dataclass(frozen=True)
class _Unit:
    """Samples that must stay together: those of one group, or a single one."""

    key: str
    members: tuple[int, ...]
    strata: Counter[_Stratum]

    @property
    def labels(self) -> Counter[str]:
        found = Counter[str]()
        for (_, label), count in self.strata.items():
            found[label] += count
        return found


def ensure_splits(
    dataset: Dataset,
    seed: int = 0,
    val_share: float = 0.2,
    test_share: float = 0.2,
    need_defects_in_training: bool = False,
) -> Dataset:
    """The dataset with a split for every sample; deterministic, whatever the order of the samples.

    Splits that the data bring are kept. Samples without one, among others that have one, go to their group's split,
    or else to training. Without any, groups are shared out, stratified by label within each product; where training
    needs good parts only, groups with a defect all go to test, unless that would take more than half of the good images
    with it. A missing validation set is cut from training, never from test. Synthetic images go to training, and those
    that show something of an image held out are left out.
    """
    real, drawn = split_synthetic(dataset)
    if drawn:
        real = ensure_splits(real, seed, val_share, test_share, need_defects_in_training)
        held = real.where(lambda s: s.split != "train").samples
        return real.with_samples([*real.samples, *(replace(s, split="train") for s in exclude_sources(held, drawn))])
    samples = dataset.samples
    splits = [s.split for s in samples]
    if any(splits):
        by_group = {s.group: s.split for s in samples if s.group is not None and s.split is not None}
        splits = [s.split or (by_group.get(s.group) if s.group is not None else None) or "train" for s in samples]
        if val_share > 0 and "val" not in splits:
            training = [i for i, split in enumerate(splits) if split == "train"]
            _assign(splits, _units(dataset, training), {"train": 1 - val_share, "val": val_share}, seed)
        return dataset.with_samples(_replaced(samples, splits))

    units = _units(dataset, range(len(samples)))
    if not need_defects_in_training:
        clean = [u for u in units if set(u.labels) == {GOOD}]
        good_left = sum(len(u.members) for u in clean)
        if good_left * 2 >= sum(u.labels[GOOD] for u in units) > 0:
            for i in (i for u in units for i in u.members):
                splits[i] = "test"
            units = clean
    _assign(splits, units, {"train": 1 - val_share - test_share, "val": val_share, "test": test_share}, seed)
    return dataset.with_samples(_replaced(samples, splits))


def assign_folds(dataset: Dataset, folds: int, seed: int = 0) -> list[int]:
    """A fold for every sample: groups stay together, the labels of each product are shared out evenly; deterministic,
    as `ensure_splits`.

    Raises DataError where a fold would miss good or defective images that there are.
    """
    names: list[str | None] = [None] * len(dataset)
    _assign(names, _units(dataset, range(len(dataset))), {str(k): 1 / folds for k in range(folds)}, seed)
    for kind, word in ((False, "good"), (True, "defective")):
        own = {name for name, s in zip(names, dataset.samples, strict=True) if s.defective is kind}
        if 0 < len(own) < folds:
            count = sum(s.defective is kind for s in dataset.samples)
            raise DataError(
                f"{folds} folds need {word} images in each of them, and {count} outside the test set are too few "
                "or too much of a group: take fewer folds"
            )
    return [int(str(name)) for name in names]


def _replaced(samples: Sequence[Sample], splits: Sequence[str | None]) -> Iterable[Sample]:
    return (s if s.split == split else replace(s, split=split) for s, split in zip(samples, splits, strict=True))


def _units(dataset: Dataset, indices: Iterable[int]) -> list[_Unit]:
    """Groups in an order that depends on names alone."""
    members: defaultdict[tuple[str, str], list[int]] = defaultdict(list)
    for i in indices:
        s = dataset.samples[i]
        key = ("group", s.group) if s.group is not None else ("image", s.image.as_posix())
        members[key].append(i)
    return [
        _Unit("/".join(key), tuple(own), Counter(_stratum(dataset.samples[i]) for i in own))
        for key, own in sorted(members.items())
    ]


def _stratum(sample: Sample) -> _Stratum:
    label = {True: "defect", False: GOOD, None: ""}[sample.defective] if sample.label is None else sample.label
    return sample.product or "", label


def _assign(splits: list[str | None], units: list[_Unit], shares: Shares, seed: int) -> None:
    """Give every unit to the split that is furthest from its share of the unit's rarest stratum.

    A stratum is a label of a product; among splits that are as far from their share of it, the label of all products
    tells. Rare strata come first and large groups before small ones, so that what is left can even out; a split is
    given its first unit of a stratum before any other gets a second, so that rare classes reach every split.
    """
    shares = {name: share for name, share in shares.items() if share > 0}
    totals = Counter[_Stratum]()
    for unit in units:
        totals += unit.strata
    order = np.random.default_rng(seed).permutation(len(units))
    rarest = [min(unit.strata, key=lambda stratum: (totals[stratum], stratum)) for unit in units]
    queue = sorted(order, key=lambda i: (totals[rarest[i]], rarest[i], -len(units[i].members)))
    filled: dict[str, Counter[_Stratum]] = {name: Counter() for name in shares}
    labels: dict[str, Counter[str]] = {name: Counter() for name in shares}
    for i in queue:
        stratum = rarest[i]
        chosen = min(
            shares,
            key=lambda name: (
                filled[name][stratum] / shares[name],
                labels[name][stratum[1]] / shares[name],
                name != "train",
                filled[name].total() / shares[name],
            ),
        )
        filled[chosen] += units[i].strata
        labels[chosen] += units[i].labels
        for member in units[i].members:
            splits[member] = chosen
