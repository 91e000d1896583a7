"""The benchmarks' rule for which images of the magnetic tiles are of the same tile."""

from pathlib import Path

import pytest

from blemish.dataset.sample import Dataset, Sample


@pytest.fixture
def tiles(monkeypatch):
    monkeypatch.syspath_prepend(str(Path(__file__).parents[1] / "benchmarks"))
    import tiles

    return tiles


def dataset(*names):
    samples = (Sample(Path(f"exp{exposure}_num_{number}.jpg"), label) for label, exposure, number in names)
    return Dataset(tuple(samples), Path("."), "csv")


def test_a_tile_ends_where_exposures_begin_again_or_numbers_jump(tiles):
    names = [("crack", 1, 100), ("crack", 2, 130), ("crack", 3, 160), ("crack", 1, 190), ("crack", 2, 400)]
    groups = [s.group for s in tiles.group_by_tile(dataset(*reversed(names))).samples][::-1]
    assert groups[0] == groups[1] == groups[2]
    assert len(set(groups)) == 3


def test_a_tile_whose_defect_does_not_always_show_is_one(tiles):
    names = [("good", 1, 100), ("break", 2, 120), ("good", 3, 140), ("break", 4, 160), ("good", 1, 180)]
    groups = [s.group for s in tiles.group_by_tile(dataset(*names)).samples]
    assert len(set(groups[:4])) == 1
    assert groups[4] != groups[0]


def test_no_tile_spans_two_splits(tiles):
    names = [("good" if n % 3 else "crack", k, 1000 * n + 20 * k) for n in range(20) for k in (1, 2, 3)]
    split = tiles.split_by_tile(dataset(*names)).samples
    by_tile = {}
    for sample in split:
        by_tile.setdefault(sample.group, set()).add(sample.split)
    assert len(by_tile) == 20
    assert all(len(splits) == 1 for splits in by_tile.values())
    assert {s.split for s in split} == {"train", "val", "test"}
