"""Images with synthetic defects, as `blemish augment` writes them, among real ones: they are for learning alone.

One is of no use to judge by, and it shows what other images show: the surface that it was drawn on, the defects that
were pasted. Where one of those is held out, it is left out.
"""

from collections.abc import Iterable

from blemish.dataset.sample import Dataset, Sample


def parted(dataset: Dataset) -> tuple[Dataset, list[Sample]]:
    """The real images, and the synthetic ones that may be learnt from: all but those that are given to another split.

    Where no real image is left to learn from, all are treated as real.
    """
    drawn = [s for s in dataset.samples if s.sources is not None and s.split in (None, "train")]
    rest = dataset.where(lambda s: s.sources is None or s.split not in (None, "train"))
    if not any(s.split in (None, "train") for s in rest.samples):
        return dataset, []
    return rest, drawn


def not_of(held: Iterable[Sample], drawn: Iterable[Sample]) -> list[Sample]:
    """The synthetic images that show nothing of the images held out."""
    places = {s.image.absolute() for s in held}
    return [s for s in drawn if not any(source.absolute() in places for source in s.sources or ())]
