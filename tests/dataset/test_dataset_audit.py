"""Planted faults are found, and only they; sizes against scipy; duplicates against brute force."""

import json

import cv2
import numpy as np
import pytest
from scipy import ndimage
from typer.testing import CliRunner

from blemish.cli.data import data
from blemish.dataset.audit import audit_dataset
from blemish.dataset.duplicates import MAX_DISTANCE, MIN_CORRELATION, near_pairs, oriented_hashes
from blemish.dataset.info import DepthCount, SizeCount, describe
from blemish.dataset.read import read_dataset
from blemish.dataset.sample import Dataset, Sample
from blemish.dataset.valid_mask import valid_mask
from blemish.errors import ImageError
from blemish.imaging.read import read_image, write_image

rng = np.random.default_rng(0)
COMMON = cv2.resize(rng.random((6, 6, 3)).astype(np.float32), (96, 96)) * 120  # what all parts look like


def part(seed):
    """A part of its own grain under the same camera as all others."""
    grain = np.random.default_rng(seed).random((24, 24, 1)).astype(np.float32)
    texture = cv2.resize(grain, (96, 96), interpolation=cv2.INTER_CUBIC)[..., None] * 100
    return np.clip(COMMON + texture, 0, 255).astype(np.uint8)


@pytest.fixture
def clean(tmp_path):
    root = tmp_path / "set"
    for i in range(12):
        write_image(root / f"train/good/{i:03}.png", part(i))
    for i in range(4):
        write_image(root / f"test/good/{i:03}.png", part(20 + i))
        write_image(root / f"test/dent/{i:03}.png", part(30 + i))
        spots = np.zeros((96, 96), bool)
        spots[10:20, 10 : 20 + i] = True
        spots[50:52, 50:60] = i % 2
        write_image(root / f"ground_truth/dent/{i:03}_mask.png", spots)
    return root


def test_a_clean_set_has_no_findings(clean):
    found = audit_dataset(read_dataset(clean))
    empty = {"images": 20, "unlabelled": 0, "passed_over": {}, "serious": False}
    assert {k: v for k, v in found.as_dict().items() if v != []} == empty


def test_planted_faults_are_found(clean):
    copy = (clean / "train/good/000.png").read_bytes()
    (clean / "test/good/900.png").write_bytes(copy)  # across splits
    (clean / "test/dent/901.png").write_bytes(copy)  # across splits and labels
    write_image(clean / "test/good/902.jpg", cv2.resize(part(1), (64, 64), interpolation=cv2.INTER_AREA))
    (clean / "train/good/903.png").write_bytes(copy[: len(copy) // 2])
    write_image(clean / "ground_truth/dent/000_mask.png", np.zeros((50, 96), bool))
    write_image(clean / "ground_truth/dent/001_mask.png", np.zeros((96, 96), bool))
    write_image(clean / "train/good/904.png", part(99)[:1, :1])
    found = audit_dataset(read_dataset(clean))
    assert found.serious
    assert len(found.unreadable) == 1
    assert "903.png" in found.unreadable[0]
    assert len(found.mask_size_mismatch) == 1
    assert "96×50, its image 96×96" in found.mask_size_mismatch[0]
    assert "test/dent/001.png" in found.empty_masks
    assert found.tiny == ["train/good/904.png"]
    trio = {"train/good/000.png", "test/good/900.png", "test/dent/901.png"}
    assert [set(t.images) for t in found.duplicates_across_splits] == [trio]
    assert [set(t.images) for t in found.duplicates_across_labels] == [trio]
    assert [set(t.images) for t in found.near_duplicates] == [{"train/good/001.png", "test/good/902.jpg"}]
    assert found.near_duplicates[0].across_splits


def test_groups_across_splits_and_defects_on_good_parts(clean):
    dataset = read_dataset(clean)
    samples = [
        Sample(s.image, label=s.label, split=s.split, group="lot 7" if i in (0, 19) else None)
        for i, s in enumerate(dataset.samples)
    ]
    assert {s.split for s in samples if s.group} == {"train", "test"}
    samples[10] = Sample(samples[10].image, label="good", split="train", mask=clean / "ground_truth/dent/003_mask.png")
    found = audit_dataset(dataset.with_samples(samples))
    assert found.groups_across_splits == ["lot 7"]
    assert found.masks_on_good == [samples[10].image.relative_to(clean).as_posix()]


@pytest.mark.parametrize("change", ["jpeg", "half size", "brighter", "noise", "blur", "turned", "mirrored"])
def test_altered_copies_are_near_and_other_parts_are_not(tmp_path, change):
    images = [part(i) for i in range(40)]
    alter = {
        "jpeg": lambda a: cv2.imdecode(cv2.imencode(".jpg", a, [1, 60])[1], 1),
        "half size": lambda a: cv2.resize(a, (48, 48), interpolation=cv2.INTER_AREA),
        "brighter": lambda a: np.clip(a * 1.1 + 5, 0, 255).astype(np.uint8),
        "noise": lambda a: np.clip(a + rng.normal(0, 3, a.shape), 0, 255).astype(np.uint8),
        "blur": lambda a: cv2.GaussianBlur(a, (0, 0), 0.8),
        "turned": lambda a: np.rot90(a, 3).copy(),
        "mirrored": lambda a: a[:, ::-1].copy(),
    }[change]
    images += [alter(image) for image in images[:5]]
    for i, image in enumerate(images):
        write_image(tmp_path / f"good/{i:02}.png", image)
    pairs = {tuple(t.images) for t in audit_dataset(read_dataset(tmp_path)).near_duplicates}
    assert pairs == {(f"good/{i:02}.png", f"good/{40 + i}.png") for i in range(5)}


def test_near_pairs_agrees_with_brute_force_across_blocks():
    count = 2300  # three blocks of rows
    hashes = np.sign(rng.normal(size=(count, 64))).astype(np.float32)
    structures = rng.normal(size=(count, 8)).astype(np.float32)
    source, target = rng.integers(0, count, (2, 300))
    hashes[target], structures[target] = hashes[source], structures[source]
    hashes[target, :6] *= np.sign(rng.normal(size=(300, 6)))
    structures /= np.linalg.norm(structures, axis=1, keepdims=True)
    distance = np.array([(row != hashes).sum(axis=1) for row in hashes])
    alike = (distance <= MAX_DISTANCE) & (structures @ structures.T >= MIN_CORRELATION)
    expected = {(int(i), int(j)) for i, j in zip(*np.nonzero(np.triu(alike, 1)), strict=True)}
    assert {(i, j) for i, j, _ in near_pairs(hashes, structures)} == expected
    assert len(expected) > 100


def test_hash_is_of_any_depth_and_the_same_at_another():
    image = part(0)
    deep = image.astype(np.uint16) * 257
    np.testing.assert_array_equal(oriented_hashes(image), oriented_hashes(deep))
    assert oriented_hashes(np.zeros((1, 1, 5), np.float32)).shape == (8, 64)


def test_defect_sizes_agree_with_scipy(clean):
    found = describe(read_dataset(clean))
    sizes = []
    for path in sorted((clean / "ground_truth/dent").iterdir()):
        regions, count = ndimage.label(cv2.imread(str(path), 0) > 127, np.ones((3, 3)))
        sizes += list(ndimage.sum_labels(np.ones(regions.shape), regions, range(1, count + 1)))
    (dents,) = found.defects
    assert (dents.label, dents.source, dents.pixels.count) == ("dent", "mask", len(sizes))
    spread = [dents.pixels.low, dents.pixels.q1, dents.pixels.median, dents.pixels.q3, dents.pixels.high]
    np.testing.assert_allclose(spread, np.quantile(sizes, [0, 0.25, 0.5, 0.75, 1]))
    assert dents.share.high == pytest.approx(max(sizes) / 96**2)
    assert found.counts == {"good": {"train": 12, "test": 4}, "dent": {"test": 4}}
    (size,), (depth,) = found.sizes, found.depths
    assert (found.setting, size, depth) == ("unknown", SizeCount(96, 96, 20), DepthCount(8, 3, 20))
    assert (str(size), str(depth)) == ("96×96", "8 bit, RGB")


def run(*arguments):
    return CliRunner().invoke(data, [str(a) for a in arguments])


def test_commands(clean, tmp_path, caplog):
    shown = run("info", clean)
    assert shown.exit_code == 0
    assert "mvtec" in shown.stdout
    assert json.loads(run("info", clean, "--json", "-").stdout)["counts"]["dent"] == {"test": 4}
    assert run("audit", clean).exit_code == 0
    assert run("convert", clean, tmp_path / "list.csv", "--to", "csv").exit_code == 0
    assert len(read_dataset(tmp_path / "list.csv")) == 20
    run("convert", clean, tmp_path / "classes", "--to", "classes")
    assert "mask of 4 images is not kept" in caplog.text
    (clean / "test/good/000.png").write_bytes((clean / "train/good/000.png").read_bytes())
    found = run("audit", clean, "--json", tmp_path / "audit.json")
    assert found.exit_code == 1
    assert "the same file in two splits: 1" in found.stdout
    assert json.loads((tmp_path / "audit.json").read_text())["serious"] is True


def test_valid_mask_takes_roi_and_ignore_at_any_scale(tmp_path):
    roi, ignore = np.zeros((20, 40), bool), np.zeros((20, 40), bool)
    roi[5:15, 10:30], ignore[8:10, 12:14] = True, True
    write_image(tmp_path / "roi.png", roi)
    write_image(tmp_path / "ignore.png", ignore)
    plain = Sample(tmp_path / "a.png")
    assert valid_mask(plain, (20, 40)).all()
    both = Sample(tmp_path / "a.png", roi=tmp_path / "roi.png", ignore=tmp_path / "ignore.png")
    np.testing.assert_array_equal(valid_mask(both, (20, 40)), roi & ~ignore)
    twice = np.kron(roi & ~ignore, np.ones((2, 2), bool))
    np.testing.assert_array_equal(valid_mask(both, (40, 80)), twice)
    with pytest.raises(ImageError, match="does not fit"):
        valid_mask(both, (20, 60))
    with pytest.raises(ImageError, match="no valid pixels left"):
        valid_mask(Sample(tmp_path / "a.png", roi=tmp_path / "roi.png", ignore=tmp_path / "roi.png"), (20, 40))


def test_an_unreadable_file_does_not_stop_the_others(clean):
    (clean / "train/good/000.png").write_bytes(b"")
    found = describe(read_dataset(clean))
    assert len(found.unreadable) == 1
    assert found.sizes == [SizeCount(96, 96, 19)]
    assert isinstance(read_dataset(clean), Dataset)


def test_images_of_another_product_are_no_near_duplicates(tmp_path):
    """Parts of one product share their design, which is no likeness, also beside a product of another design."""
    rng = np.random.default_rng(0)
    for product in ("a", "b"):
        design = cv2.GaussianBlur(rng.uniform(0, 255, (64, 64, 1)), (0, 0), 2)[..., None] * 3 - 250
        for i in range(20):
            pixels = np.clip(design + 4 * rng.standard_normal(design.shape), 0, 255).astype(np.uint8)
            name = "train/good" if i < 12 else "test/good" if i < 16 else "test/dent"
            write_image(tmp_path / product / name / f"{i}.png", pixels)
    assert audit_dataset(read_dataset(tmp_path)).near_duplicates == []
    pixels = read_image(tmp_path / "b/train/good/4.png")
    write_image(tmp_path / "b/test/good/98.png", np.clip(pixels * 0.8, 0, 255).astype(np.uint8))
    found = audit_dataset(read_dataset(tmp_path)).near_duplicates
    assert [set(t.images) for t in found] == [{"b/train/good/4.png", "b/test/good/98.png"}]


def test_inverted_masks_constant_images_and_pixels_that_are_no_numbers(tmp_path):
    for i in range(4):
        write_image(tmp_path / f"good/{i}.tif", part(i).astype(np.float32) / 255)
        write_image(tmp_path / f"bad/d{i}.tif", part(9 + i).astype(np.float32) / 255)
        mask = np.zeros((96, 96), np.bool_)
        mask[4:20, 4:30] = True
        write_image(tmp_path / f"masks/d{i}.png", ~mask if i == 0 else mask)
    sound = audit_dataset(read_dataset(tmp_path))
    assert (sound.constant, sound.unreadable) == ([], [])
    assert sound.large_masks == ["bad/d0.tif"]
    pixels = read_image(tmp_path / "good/0.tif").copy()
    pixels[3, 4] = np.nan
    write_image(tmp_path / "good/0.tif", pixels)
    write_image(tmp_path / "good/1.tif", np.full_like(pixels, 0.5))
    found = audit_dataset(read_dataset(tmp_path))
    assert found.constant == ["good/1.tif"]
    assert len(found.unreadable) == 1
    assert "good/0.tif has pixels that are not finite" in found.unreadable[0]
