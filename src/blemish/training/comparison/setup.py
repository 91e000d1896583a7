"""The setup that all methods of a comparison share: split, folds, the images the choice is based on, the folder."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import yaml

import blemish
from blemish.dataset.sample import Dataset
from blemish.dataset.split import assign_folds, ensure_splits
from blemish.dataset.synthetic_samples import split_synthetic
from blemish.dataset.write import dataset_sha256, write_csv
from blemish.errors import DataError, OptionError
from blemish.files import load_yaml, write_atomic
from blemish.methods.catalogue import method_class
from blemish.training.learn.prepare import VAL_SHARE, check_trainable, make_splits
from blemish.training.learn.supervision import learns_from_good_only

Basis = Literal["folds", "validation", "test"]
LeftOut = list[tuple[str, str]]  # method and reason


@dataclass(frozen=True)
class ComparisonSetup:
    out: Path
    dataset: Dataset  # with splits
    basis: Basis
    folds: list[Dataset]  # each with its held-out images as the split "test"; empty without folds
    settings: dict[str, Any]  # of `RunConfig`
    progress: bool

    def list_runs(self, method: str) -> list[tuple[Path, Path]]:
        """List of images and run folder of each training that the choice is based on."""
        if self.folds:
            folders = [self.out / "folds" / str(k) for k in range(len(self.folds))]
            return [(folder / "split.csv", folder / method) for folder in folders]
        return [(self.out / "split.csv", self.out / "runs" / method)]

    def select_settings(self, method: str) -> dict[str, Any]:
        """The settings without synthetic defects for a method that is trained on good images alone."""
        if learns_from_good_only(method_class(method)):
            return {key: value for key, value in self.settings.items() if key != "synthetic"}
        return self.settings


def make_setup(
    out: Path, dataset: Dataset, methods: Sequence[str], settings: dict[str, Any], folds: int, seed: int, progress: bool
) -> ComparisonSetup:
    """Split the dataset once for all methods; DataError where no images can rank them."""
    split = make_splits(dataset, [method_class(name) for name in methods], seed, VAL_SHARE, need_defects=folds > 0)
    return ComparisonSetup(
        out, split, choose_basis(split, folds), make_fold_splits(split, folds, seed), settings, progress
    )


def choose_basis(split: Dataset, folds: int) -> Basis:
    """The images that the choice is based on; DataError where none can rank methods."""
    if folds:
        if _can_rank(split_synthetic(split.where(lambda s: s.split != "test"))[0], split):
            return "folds"
        raise DataError(
            "folds are made of the training and validation images, and those hold no defective ones to rank methods "
            "by; leave out --folds, or give some of the defects the split 'train'"
        )
    if _can_rank(split.split("val"), split):
        return "validation"
    if any(s.defective for s in split.split("test").samples):
        return "test"
    raise DataError(
        "neither the validation nor the test images hold known defects, so no metric can rank the methods; "
        "label some, or give some of the defects the split 'test'"
    )


def _can_rank(subset: Dataset, whole: Dataset) -> bool:
    """Whether a subset has good and defective images, or defects where no image of the data is good."""
    kinds = {s.defective for s in subset.samples}
    return {True, False} <= kinds or (True in kinds and not any(s.defective is False for s in whole.samples))


def make_fold_splits(split: Dataset, folds: int, seed: int) -> list[Dataset]:
    """For each fold the training and validation images, with the fold's own as "test" and a new validation set.

    Synthetic images are in no fold; each is trained on where none of its source images is held out.
    """
    if not folds:
        return []
    real, synthetic = split_synthetic(split.where(lambda s: s.split != "test"))
    numbers = assign_folds(real, folds, seed)
    splits = []
    for k in range(folds):
        marked = [replace(s, split="test" if n == k else "train") for s, n in zip(real.samples, numbers, strict=True)]
        splits.append(ensure_splits(real.with_samples([*marked, *synthetic]), seed, VAL_SHARE))
    return splits


def is_trainable(method: str, setup: ComparisonSetup, left_out: LeftOut) -> bool:
    """Whether a method can be trained on the training images; if not, it is left out with the reason."""
    try:
        check_trainable(setup.dataset, method_class(method), "tiling" in setup.settings, "synthetic" in setup.settings)
    except DataError as error:
        left_out.append((method, str(error)))
        return False
    return True


def check_folder(out: Path) -> None:
    """Raise OptionError for a folder with other content."""
    if out.exists() and not out.is_dir():
        raise OptionError(f"'{out}' is a file; name a folder with --out")
    if out.is_dir() and any(out.iterdir()) and not (out / "comparison.yaml").is_file():
        raise OptionError(f"'{out}' is not empty and holds no comparison; choose another folder with --out")


def write_setup(setup: ComparisonSetup, data: str | Path, seed: int, folds: int) -> None:
    """Write the setup into the folder; OptionError where it holds a comparison of other images."""
    path = setup.out / "comparison.yaml"
    wanted = {"split": dataset_sha256(setup.dataset), "seed": seed, "folds": folds}
    if path.is_file():
        known = load_yaml(path, f"'{path}'")
        if not isinstance(known, dict) or {key: known.get(key) for key in wanted} != wanted:
            raise OptionError(
                f"'{setup.out}' holds a comparison of other images, splits, folds or another seed; "
                "choose another folder with --out"
            )
    else:
        name = str(Path(data).resolve()) if Path(data).exists() else str(data)
        content = {"blemish": blemish.__version__, "data": name, **wanted}
        write_atomic(path, yaml.safe_dump(content, sort_keys=False, allow_unicode=True))
    lists = {setup.out / "split.csv": setup.dataset}
    lists |= {setup.out / "folds" / str(k) / "split.csv": split for k, split in enumerate(setup.folds)}
    for listed, split in lists.items():
        listed.parent.mkdir(parents=True, exist_ok=True)
        write_csv(split, listed)
