"""Training, validation and test sets: those that the data bring, and stratified ones where they bring none."""

import logging
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import numpy as np

from blemish.dataset.duplicates import identical_images, join_duplicates, near_duplicates
from blemish.dataset.sample import DEFECT, GOOD, Dataset, Sample
from blemish.dataset.synthetic_samples import exclude_sources, split_synthetic, trainable_synthetic
from blemish.errors import DataError

log = logging.getLogger(__name__)
MIN_GOOD_FOR_TUNING = 4  # good training images of a product, from which one is held out for tuning

_Stratum = tuple[str, str]  # product and label


@dataclass(frozen=True)
class _Group:
    """Indices of samples that must stay together, see `join_duplicates`, or a single one."""

    members: list[int]
    strata: Counter[_Stratum]
    labels: Counter[str]


def ensure_splits(
    dataset: Dataset,
    seed: int = 0,
    val_share: float = 0.2,
    test_share: float = 0.2,
    need_defects_in_training: bool = False,
) -> Dataset:
    """The dataset with a split for every sample; deterministic, whatever the order of the samples.

    Splits that the data bring are kept. Samples without one, among others that have one, go to the split of their group
    or of a duplicate, or else to training. Without any, groups are distributed, stratified by label within each
    product; where training needs good parts only, groups with a defect all go to test, unless that would take more than
    half of the good images with it. Duplicates count as a group, see `join_duplicates`. A missing validation set is cut
    from training, never from test. Synthetic images go to training; those that are made of an image held out, or are
    given to another split, are left out, see `trainable_synthetic`.
    """
    real, synthetic = split_synthetic(dataset)
    if synthetic:
        real = ensure_splits(real, seed, val_share, test_share, need_defects_in_training)
        return real.with_samples([*real.samples, *trainable_synthetic(real.samples, synthetic)])
    samples = dataset.samples
    splits = [s.split for s in samples]
    if any(splits):
        if not all(splits):
            for group in _make_groups(samples, range(len(samples))):
                given = {splits[i] for i in group.members}
                own = next((name for name in ("test", "val", "tuning", "train") if name in given), "train")
                for i in group.members:
                    splits[i] = splits[i] or own
        if val_share > 0 and "val" not in splits:
            training = [i for i, split in enumerate(splits) if split == "train"]
            _distribute(splits, _make_groups(samples, training), {"train": 1 - val_share, "val": val_share}, seed)
    else:
        groups = _make_groups(samples, range(len(samples)))
        good = [group for group in groups if set(group.labels) == {GOOD}]
        enough_good = 2 * sum(len(g.members) for g in good) >= sum(g.labels[GOOD] for g in groups) > 0
        if enough_good and not need_defects_in_training:
            splits, groups = ["test"] * len(samples), good
        shares = {"train": 1 - val_share - test_share, "val": val_share, "test": test_share}
        _distribute(splits, groups, shares, seed)
    return dataset.with_samples(replace(s, split=split) for s, split in zip(samples, splits, strict=True))


def check_given_splits(dataset: Dataset, with_thresholds: bool = True) -> Dataset:
    """The dataset with one entry for each image; a warning where the same or nearly the same one is in several splits.

    An image that is given twice stays in training, or else in test. Raises DataError where a group is in several
    splits; and where a file is given for training and validation, or no validation image is other than a training
    image, and thresholds are to be chosen by them (`with_thresholds`).
    """
    samples = dataset.samples
    check_groups(samples)
    shared = shared_units(samples) if len({s.split for s in samples} - {None}) > 1 else []
    across = [unit.members for unit in shared if unit.kind == "identical"]
    in_training = {i for own in across for i in own if any(samples[j].split == "train" for j in own)}
    val = [i for i, s in enumerate(samples) if s.split == "val" and s.defective is not True and s.sources is None]
    given_twice = [own for own in across if _same_file(samples[i] for i in own if samples[i].split in ("train", "val"))]
    if with_thresholds and (given_twice or (val and in_training.issuperset(val))):
        example = samples[given_twice[0][0] if given_twice else val[0]].image
        raise DataError(
            f"validation images are training images too, such as {example}: thresholds chosen by them promise nothing; "
            "give other images for val, or none, so that a part of the training images becomes val"
        )
    for line in describe_shared(samples, shared, ("identical", "near")):
        log.warning(line)
    order = ("train", "test", "val", "tuning", None)
    kept: dict[Path, int] = {}
    for i in sorted(range(len(samples)), key=lambda i: (order.index(samples[i].split), i)):
        kept.setdefault(samples[i].image, i)
    return dataset.with_samples(samples[i] for i in sorted(kept.values()))


def check_groups(samples: Sequence[Sample]) -> None:
    """Raise DataError where real images of one group are in several splits."""
    shared = _shared_groups(samples)
    if shared:
        (name, members), groups = shared[0], {s.group for s in samples} - {None}
        first, second = _examples(samples, members)
        raise DataError(
            f"{len(shared)} of {len(groups)} groups have images in several splits, such as '{name}': {first} and "
            f"{second}; give all images of a group one split, or leave 'group' out where it names no part or lot"
        )


@dataclass(frozen=True)
class SharedUnit:
    """Indices of real images that belong together and are in several splits.

    `kind` says why: one group, identical images, near duplicates; or defective ones among near duplicates that are
    usual, as under a fixed camera, so that they may show one defect or many.
    """

    kind: Literal["group", "identical", "near", "defects"]
    members: list[int]


def shared_units(samples: Sequence[Sample], log_level: int = logging.INFO) -> list[SharedUnit]:
    """All that belongs together and is in several splits; samples without a split are in none.

    A log line of `log_level` says where near duplicates are not looked for.
    """
    indices = [i for i, s in enumerate(samples) if s.sources is None]
    real = [samples[i] for i in indices]
    same = identical_images([s.image for s in real])
    copies = {i for own in same for i in own[1:]}
    alike = near_duplicates(real, [i for i in range(len(real)) if i not in copies], log_level)
    units = [
        *(SharedUnit("group", own) for _, own in _shared_groups(real)),
        *(SharedUnit("identical", own) for own in same),
        *(SharedUnit("near", own.members) for own in alike if not own.usual),
        *(SharedUnit("defects", [i for i in own.members if real[i].defective]) for own in alike if own.usual),
    ]
    across = [unit for unit in units if len({real[i].split for i in unit.members} - {None}) > 1]
    return [replace(unit, members=[indices[i] for i in unit.members]) for unit in across]


def describe_shared(
    samples: Sequence[Sample], shared: Sequence[SharedUnit], kinds: Iterable[str] = ("identical", "near", "defects")
) -> list[str]:
    """A line for each kind of shared unit that there is: how many images, an example, and what follows."""
    lines = []
    for kind in kinds:
        own = [unit.members for unit in shared if unit.kind == kind]
        if own:
            lines.append(_describe_kind(kind, sum(map(len, own)), *_examples(samples, own[0])))
    return lines


def _describe_kind(kind: str, count: int, first: str, second: str) -> str:
    texts = {  # whole ones, for their translations
        "identical": f"{count} images are the same file in several splits, or have the same pixels, such as {first} "
        f"and {second}: metrics and thresholds from them are too good",
        "near": f"{count} images are nearly the same as others in another split, such as {first} and {second}: metrics "
        "and thresholds from them are too good where both show one part; give the images of one part the same split",
        "defects": f"{count} defective images are nearly the same as others in another split, such as {first} and "
        f"{second}, as under a fixed camera: where several show one defect, give them one 'group', since metrics from "
        "them are too good",
    }
    return texts[kind]


def _shared_groups(samples: Sequence[Sample]) -> list[tuple[str, list[int]]]:
    """Names and members of groups of real images in several splits."""
    groups: defaultdict[str, list[int]] = defaultdict(list)
    for i, s in enumerate(samples):
        if s.group is not None and s.sources is None:
            groups[s.group].append(i)
    return [own for own in groups.items() if len({samples[i].split for i in own[1]} - {None}) > 1]


def _examples(samples: Sequence[Sample], members: Iterable[int]) -> list[str]:
    """Two images of two splits, with these."""
    first: dict[str, Path] = {}
    for s in (samples[i] for i in members):
        if s.split is not None:
            first.setdefault(s.split, s.image)
    return [f"{image} ({split})" for split, image in first.items()][:2]


def hold_out_for_tuning(dataset: Dataset, share: float, seed: int = 0, log_level: int = logging.INFO) -> Dataset:
    """The dataset with a share of its training images in the split "tuning", unless the data bring that split.

    About `share` of each label of each product goes there, at least one good image of four, and never one of a label
    with so few images that its share is less than half an image. Groups and duplicates stay together. Synthetic images
    stay in training, and those that are made of a tuning image are left out.
    """
    if len(dataset.split("tuning")):
        return dataset
    real, synthetic = split_synthetic(dataset)
    samples = list(real.samples)
    training = [i for i, s in enumerate(samples) if s.split == "train"]
    groups = _make_groups(samples, range(len(samples)), log_level)
    inside = [group for group in groups if all(samples[i].split == "train" for i in group.members)]
    room = {
        stratum: max(round(share * count), int(stratum[1] == GOOD and count >= MIN_GOOD_FOR_TUNING))
        for stratum, count in Counter(_stratum(samples[i]) for i in training).items()
    }
    for k in np.random.default_rng(seed).permutation(len(inside)):
        group = inside[k]
        if all(room[stratum] >= count for stratum, count in group.strata.items()):
            for stratum, count in group.strata.items():
                room[stratum] -= count
            for i in group.members:
                samples[i] = replace(samples[i], split="tuning")
    tuning = [s for s in samples if s.split == "tuning"]
    return dataset.with_samples([*samples, *exclude_sources(tuning, synthetic, log_level)])


def _same_file(samples: Iterable[Sample]) -> bool:
    """Whether one file is given for two splits."""
    places = {(s.image.resolve(), s.split) for s in samples}
    return len(places) > len({place for place, _ in places})


def assign_folds(dataset: Dataset, folds: int, seed: int = 0) -> list[int]:
    """A fold for every sample: groups stay together, the labels of each product are spread evenly; deterministic,
    as `ensure_splits`.

    Raises DataError where a fold would miss good or defective images that there are.
    """
    names: list[str | None] = [None] * len(dataset)
    groups = _make_groups(dataset.samples, range(len(dataset)))
    _distribute(names, groups, {str(k): 1 / folds for k in range(folds)}, seed)
    for defective, word in ((False, "good"), (True, "defective")):
        own = [name for name, s in zip(names, dataset.samples, strict=True) if s.defective is defective]
        if 0 < len(set(own)) < folds:
            raise DataError(
                f"{folds} folds need {word} images in each of them, and {len(own)} outside the test set are too few "
                "or too much of a group: take fewer folds"
            )
    return [int(str(name)) for name in names]


def _make_groups(samples: Sequence[Sample], indices: Iterable[int], log_level: int = logging.INFO) -> list[_Group]:
    """Groups in an order that depends on names alone."""
    indices = list(indices)
    subset = [samples[i] for i in indices]
    members: defaultdict[tuple[str, str], list[int]] = defaultdict(list)
    for i, unit in zip(indices, join_duplicates(subset, log_level), strict=True):
        s = subset[unit]
        members[("group", s.group) if s.group is not None else ("image", s.image.as_posix())].append(i)
    groups = []
    for _, own in sorted(members.items()):
        strata = Counter(_stratum(samples[i]) for i in own)
        groups.append(_Group(own, strata, Counter(_stratum(samples[i])[1] for i in own)))
    return groups


def _stratum(sample: Sample) -> _Stratum:
    label = {True: DEFECT, False: GOOD, None: ""}[sample.defective] if sample.label is None else sample.label
    return sample.product or "", label


def _distribute(splits: list[str | None], groups: list[_Group], shares: dict[str, float], seed: int) -> None:
    """Give every group to the split that is furthest from its share of the group's rarest stratum.

    A stratum is a label of a product; among splits that are as far from their share of it, the label of all products
    decides. Rare strata come first and large groups before small ones, so that what is left can even out; a split is
    given its first group of a stratum before any other gets a second, so that rare classes reach every split.
    """
    shares = {name: share for name, share in shares.items() if share > 0}
    totals = sum((group.strata for group in groups), Counter[_Stratum]())
    rarest = [min(group.strata, key=lambda stratum: (totals[stratum], stratum)) for group in groups]
    order = np.random.default_rng(seed).permutation(len(groups))
    filled: dict[str, Counter[_Stratum]] = {name: Counter() for name in shares}
    labels: dict[str, Counter[str]] = {name: Counter() for name in shares}
    for i in sorted(order, key=lambda i: (totals[rarest[i]], rarest[i], -len(groups[i].members))):
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
        filled[chosen] += groups[i].strata
        labels[chosen] += groups[i].labels
        for member in groups[i].members:
            splits[member] = chosen
