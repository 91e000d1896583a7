"""Images with synthetic defects, as `blemish augment` writes them, among real ones: they are for training alone.

They cannot serve for evaluation, and they are made of other images: the surface, the defects that were pasted. Where
one of those is held out, the synthetic image is left out.
"""

from collections.abc import Iterable

from blemish.dataset.sample import Dataset, Sample


def split_synthetic(dataset: Dataset) -> tuple[Dataset, list[Sample]]:
    """The real images, and the synthetic ones that may be trained on: all but those that are given to another split.

    Where no real image is left to train on, all are treated as real.
    """
    synthetic = [s for s in dataset.samples if s.sources is not None and s.split in (None, "train")]
    real = dataset.where(lambda s: s.sources is None or s.split not in (None, "train"))
    if not any(s.split in (None, "train") for s in real.samples):
        return dataset, []
    return real, synthetic


def exclude_sources(held_out: Iterable[Sample], synthetic: Iterable[Sample]) -> list[Sample]:
    """The synthetic images that are made of none of the images held out."""
    images = {s.image.absolute() for s in held_out}
    return [s for s in synthetic if not any(source.absolute() in images for source in s.sources or ())]
