"""The sets of a benchmark: one, or every category of a folder, each with its test images fixed."""

import logging
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from blemish.dataset.image_files import list_folders
from blemish.dataset.labels import Unlabelled
from blemish.dataset.read import read_dataset
from blemish.dataset.sample import Dataset
from blemish.errors import DataError
from blemish.methods.base import Method
from blemish.training.learn.prepare import make_splits

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class BenchmarkSet:
    """Images that one training learns from; of a unified set, each product is evaluated on its own."""

    name: str
    dataset: Dataset
    products: tuple[str, ...] = ()

    def test_images(self) -> dict[str, Dataset]:
        """The test images of each set that is evaluated."""
        test = self.dataset.split("test")
        return select_products(test, self.products) if self.products else {self.name: test}


def select_products(dataset: Dataset, products: Sequence[str]) -> dict[str, Dataset]:
    """The images of each product."""
    return {name: dataset.with_samples(s for s in dataset.samples if s.product == name) for name in products}


def read_sets(
    root: str | Path,
    methods: Sequence[type[Method]],
    unified: bool = False,
    format: str = "auto",
    data_root: str | None = None,
    good: Iterable[str] = (),
    unlabelled: Unlabelled = "unknown",
) -> list[BenchmarkSet]:
    """One set a category, or with `unified` one of all; test images do not depend on the seed of a training.

    `root` is anything that `read_dataset` reads, or a folder of such. Raises DataError where it is neither.
    """
    try:
        dataset = read_dataset(root, format, data_root, good, unlabelled)
    except DataError as error:
        if unified:
            raise
        return _read_folders(Path(root), methods, format, good, unlabelled, error)
    name = Path(root).resolve().stem if Path(root).is_file() else Path(root).resolve().name
    products = sorted({s.product for s in dataset.samples if s.product is not None})
    if len(products) < 2 or unified:
        split = fix_test_images(dataset, methods)
        return [BenchmarkSet(name, split, tuple(products) if unified and len(products) > 1 else ())]
    return [
        BenchmarkSet(own, fix_test_images(part, methods)) for own, part in select_products(dataset, products).items()
    ]


def _read_folders(
    root: Path,
    methods: Sequence[type[Method]],
    format: str,
    good: Iterable[str],
    unlabelled: Unlabelled,
    error: DataError,
) -> list[BenchmarkSet]:
    """Each folder below `root` as a set of its own; the error of `root` itself where one of them is none."""
    folders = list_folders(root) if root.is_dir() else []
    try:
        found = [(folder.name, read_dataset(folder, format, None, good, unlabelled)) for folder in folders]
    except DataError as own:
        raise DataError(f"{error}; nor is it a folder of categories: {own}") from own
    if not found:
        raise error
    return [BenchmarkSet(name, fix_test_images(dataset, methods)) for name, dataset in found]


def fix_test_images(dataset: Dataset, methods: Sequence[type[Method]]) -> Dataset:
    """The test images that the data bring, or else a fifth by seed 0, grouped by part; DataError without any.

    Validation images that were not given stay training images: each training holds out its own, by its seed. Synthetic
    images that are given as others than training images are left out, which is said.
    """
    if held_out := [s.image for s in dataset.samples if s.sources is not None and s.split not in (None, "train")]:
        log.warning(f"{len(held_out)} synthetic images, such as {held_out[0]}, are left out: only real ones measure")
        dataset = dataset.where(lambda s: s.image not in set(held_out))
    split = dataset if any(s.split == "test" for s in dataset.samples) else make_splits(dataset, methods, 0, 0.0)
    split = split.with_samples(replace(s, split=s.split or "train") for s in split.samples)
    if not any(s.defective for s in split.split("test").samples):
        raise DataError(f"{dataset.root}: the test images hold no defect, so nothing can be measured on them")
    return split
