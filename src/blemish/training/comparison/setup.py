"""What all methods of a comparison share: the split, the folds, the images that the choice rests on, the folder."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import yaml

import blemish
from blemish.dataset.sample import Dataset
from blemish.dataset.split import ensure_splits, fold_numbers
from blemish.dataset.synthetic_samples import parted
from blemish.dataset.write import sha256_of, write_csv
from blemish.errors import DataError, OptionError
from blemish.methods.catalogue import method_class
from blemish.training.learn.supervision import check_truth, good_alone
from blemish.training.learn.windows import check_places, learns_windows

VAL_SHARE = TEST_SHARE = 0.2  # where the data has no splits
Basis = Literal["folds", "validation", "test"]
LeftOut = list[tuple[str, str]]  # method and reason


@dataclass(frozen=True)
class Contest:
    """What all methods share."""

    out: Path
    dataset: Dataset  # with splits
    basis: Basis
    folds: list[Dataset]  # each with its held images as the split "test"; empty without folds
    settings: dict[str, Any]  # of RunConfig
    progress: bool


def split_for(dataset: Dataset, names: Sequence[str], folds: int, seed: int) -> Dataset:
    """Splits for all methods alike; defects are among the training images where folds or a method need them."""
    need = folds > 0 or not all(good_alone(method_class(name)) for name in names)
    return ensure_splits(dataset, seed, VAL_SHARE, TEST_SHARE, need_defects_in_training=need)


def basis_of(split: Dataset, folds: int) -> Basis:
    """What the choice rests on; raises DataError where nothing can tell methods apart."""
    held, test = split.split("val"), split.split("test")
    if folds:
        if _ranks(parted(split.where(lambda s: s.split != "test"))[0], split):
            return "folds"
        raise DataError(
            "folds are made of the training and validation images, and those hold no defective ones to rank methods "
            "by; leave out --folds, or give some of the defects the split 'train'"
        )
    if _ranks(held, split):
        return "validation"
    if any(s.defective for s in test.samples):
        return "test"
    raise DataError(
        "neither the validation nor the test images hold known defects, so nothing tells which method is better; "
        "label some, or give some of the defects the split 'test'"
    )


def _ranks(part: Dataset, whole: Dataset) -> bool:
    """Whether a part can rank methods: good and defective images, or defects where no image of the data is good."""
    kinds = {s.defective for s in part.samples}
    return {True, False} <= kinds or (True in kinds and not any(s.defective is False for s in whole.samples))


def folds_of(split: Dataset, folds: int, seed: int) -> list[Dataset]:
    """For each fold the training and validation images, the fold's own as "test" and a new validation set.

    Synthetic images are in no fold; each is learnt from where nothing that it shows is held out.
    """
    if not folds:
        return []
    pool, drawn = parted(split.where(lambda s: s.split != "test"))
    numbers = fold_numbers(pool, folds, seed)
    parts = []
    for k in range(folds):
        marked = [replace(s, split="test" if n == k else "train") for s, n in zip(pool.samples, numbers, strict=True)]
        parts.append(ensure_splits(pool.with_samples([*marked, *drawn]), seed, VAL_SHARE))
    return parts


def settings_for(name: str, settings: dict[str, Any]) -> dict[str, Any]:
    """Those that are a method's: synthetic defects are not for one that learns from good images alone."""
    if good_alone(method_class(name)):
        return {key: value for key, value in settings.items() if key != "synthetic"}
    return settings


def can_learn(name: str, split: Dataset, settings: dict[str, Any], left_out: LeftOut) -> bool:
    """Whether a method can learn from the training images; else it is left out with the reason."""
    kind = method_class(name)
    try:
        if learns_windows(kind, "tiling" in settings):
            check_places(split)
        else:
            check_truth(split, kind, drawn="synthetic" in settings)
    except DataError as error:
        left_out.append((name, str(error)))
        return False
    return True


def check_folder(out: Path) -> None:
    """Raises OptionError for a folder that holds something else."""
    if out.exists() and not out.is_dir():
        raise OptionError(f"'{out}' is a file; name a folder with --out")
    if out.is_dir() and any(out.iterdir()) and not (out / "comparison.yaml").is_file():
        raise OptionError(f"'{out}' is not empty and holds no comparison; choose another folder with --out")


def start(contest: Contest, data: str | Path, seed: int, folds: int) -> None:
    """Write what was asked for, or hold that the folder's comparison is of the same images."""
    path = contest.out / "comparison.yaml"
    asked = {"split": sha256_of(contest.dataset), "seed": seed, "folds": folds}
    if path.is_file():
        try:
            known = yaml.safe_load(path.read_text(encoding="utf-8"))
        except yaml.YAMLError:
            known = None
        if not isinstance(known, dict) or {key: known.get(key) for key in asked} != asked:
            raise OptionError(
                f"'{contest.out}' holds a comparison of other images, splits, folds or another seed; "
                "choose another folder with --out"
            )
    else:
        contest.out.mkdir(parents=True, exist_ok=True)
        name = str(Path(data).resolve()) if Path(data).exists() else str(data)
        whole = {"blemish": blemish.__version__, "data": name, **asked}
        path.write_text(yaml.safe_dump(whole, sort_keys=False, allow_unicode=True), encoding="utf-8")
    lists = {contest.out / "split.csv": contest.dataset}
    lists |= {contest.out / "folds" / str(k) / "split.csv": part for k, part in enumerate(contest.folds)}
    for listed, part in lists.items():
        listed.parent.mkdir(parents=True, exist_ok=True)
        write_csv(part, listed)


def places_of(contest: Contest, method: str) -> list[tuple[Path, Path]]:
    """The list of images and the run folder of each training that the choice rests on."""
    if contest.folds:
        folders = [contest.out / "folds" / str(k) for k in range(len(contest.folds))]
        return [(folder / "split.csv", folder / method) for folder in folders]
    return [(contest.out / "split.csv", contest.out / "runs" / method)]
