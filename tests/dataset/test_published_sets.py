"""The published sets read by auto-detection, with the counts that their sources state."""

import os
from collections import Counter
from pathlib import Path

import pytest

from blemish.dataset.audit import audit_dataset
from blemish.dataset.read import read_dataset
from blemish.dataset.split import ensure_splits

ROOT = Path(os.environ.get("BLEMISH_DATA") or "absent")
pytestmark = pytest.mark.skipif(not ROOT.is_dir(), reason="BLEMISH_DATA does not name a folder of real data")
BOTTLE = {"good": 229, "broken_large": 20, "broken_small": 22, "contamination": 21}
PILL = {
    "good": 293, "color": 25, "combined": 17, "contamination": 21, "crack": 26, "faulty_imprint": 19, "pill_type": 9,
    "scratch": 24,
}  # fmt: skip
TILE = {"good": 952, "blowhole": 115, "uneven": 103, "break": 85, "crack": 57, "fray": 32}


@pytest.mark.parametrize(
    ("path", "root", "format", "classes", "without_mask"),
    [
        ("mvtec_ad/bottle", None, "mvtec", BOTTLE, 0),
        ("mvtec_ad/pill", None, "mvtec", PILL, 0),
        ("mvtec_ad", None, "mvtec", Counter(BOTTLE) + Counter(PILL), 0),
        ("wood_anomaly", None, "mvtec", {"good": 140, "defect": 71}, 0),
        ("magnetic_tile", None, "masks", TILE, 4),
        ("splits/magnetic_tile_anomaly_by_tile.csv", "magnetic_tile", "csv", {**TILE, "good": 905}, 4),
        ("splits/magnetic_tile_supervised_by_tile.csv", "magnetic_tile", "csv", TILE, 4),
    ],
)
def test_counts(path, root, format, classes, without_mask):
    """Four images of uneven tiles have an empty mask: where their defect is, is not known."""
    dataset = read_dataset(ROOT / path, root=ROOT / root if root else None)
    assert dataset.format == format
    assert Counter(s.label for s in dataset.samples) == classes
    assert sum(s.mask is None for s in dataset.samples if s.defective) == without_mask


def test_the_fixed_split_is_kept():
    dataset = read_dataset(ROOT / "splits/magnetic_tile_anomaly.csv", root=ROOT / "magnetic_tile")
    assert Counter(s.split for s in ensure_splits(dataset).samples) == {"train": 667, "val": 95, "test": 582}


def test_audit_finds_the_known_empty_masks_and_the_repeated_wood():
    tile = read_dataset(ROOT / "magnetic_tile")
    uneven = audit_dataset(tile.where(lambda s: s.label == "uneven"))
    assert len(uneven.empty_masks) == 4
    wood = audit_dataset(read_dataset(ROOT / "wood_anomaly"))
    assert [t.images for t in wood.near_duplicates if t.across_splits] == [
        ["test/good/83.jpg", "train/good/8.jpg"],
        ["test/good/71.jpg", "train/good/7.jpg"],
    ]
    assert not wood.serious
