"""A bundle knows its images by their contents: wherever they lie, none of them passes for a new one in a test."""

import logging
import shutil
from dataclasses import replace

import cv2
import numpy as np
import pytest

from blemish import evaluate, read_dataset, resume, train
from blemish.cli import main
from blemish.cli.evaluate import read_subset
from blemish.dataset import duplicates
from blemish.dataset.contents import content_hash
from blemish.dataset.sample import Dataset, Sample
from blemish.dataset.write import dataset_sha256
from blemish.errors import BundleError, DataError, OptionError
from blemish.files import file_sha256
from blemish.inspection.bundle import Bundle, find_bundle, open_bundle, write_bundle
from blemish.inspection.inspector import Inspector
from blemish.inspection.seen_images import SEEN, join_seen, pack_seen, unpack_seen
from blemish.report.evaluation_page import data_warnings
from blemish.training.ship.compress import find_images
from blemish.translation import translator

QUICK = {"weights": "random", "image_size": 64}


def draw(path, seed, defect=False):
    """A speckled surface, with a bright square where it is defective."""
    rng = np.random.default_rng(seed)
    image = rng.normal(110, 12, (64, 64, 3)).clip(0, 255).astype(np.uint8)
    if defect:
        y, x = rng.integers(5, 45, 2)
        image[y : y + 12, x : x + 12] = 255
    path.parent.mkdir(parents=True, exist_ok=True)
    cv2.imwrite(str(path), image)


def learn(data, out, **settings):
    options = {"method": "padim", "options": QUICK, "calibration": "held-out", **settings}
    return train(data, out=out, progress=False, trainer={"accelerator": "cpu"}, **options)


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """Images in class folders, without splits."""
    folder = tmp_path_factory.mktemp("data") / "parts"
    for i in range(30):
        draw(folder / "good" / f"{i:02}.png", i)
    for i in range(8):
        draw(folder / "dent" / f"{i:02}.png", 100 + i, defect=True)
    return folder


@pytest.fixture(scope="module")
def run(data, tmp_path_factory):
    return learn(data, tmp_path_factory.mktemp("runs") / "run")


def splits_of(run):
    return {s.image: s.split for s in read_dataset(run / "split.csv", "csv").samples}


def test_a_bundle_lists_the_contents_of_all_images_but_the_test_images(run):
    expected = {file_sha256(image)[:16]: split for image, split in splits_of(run).items() if split != "test"}
    assert unpack_seen(open_bundle(run)) == expected
    assert set(expected.values()) == {"train", "tuning", "val"}


def test_a_damaged_list_is_refused(run):
    bundle = open_bundle(run)
    with pytest.raises(BundleError, match=SEEN):
        unpack_seen(Bundle(bundle.path, bundle.graph, bundle.manifest, {SEEN: b"[1]"}))


@pytest.mark.parametrize("alone", [False, True])
def test_of_a_copy_of_the_data_only_the_test_images_are_evaluated(alone, run, data, tmp_path, caplog):
    copy = shutil.copytree(data, tmp_path / "copy")
    for i, image in enumerate(sorted(copy.rglob("*.png"))):
        image.rename(image.with_name(f"renamed {i}.png"))
    bundle = shutil.copy(find_bundle(run), tmp_path / "alone.blemish") if alone else find_bundle(run)
    draw(copy / "good" / "new.png", 999)
    with caplog.at_level(logging.INFO):
        subset = read_subset(str(copy), None, None, "auto", bundle)
    expected = {file_sha256(image) for image, split in splits_of(run).items() if split == "test"}
    assert {file_sha256(s.image) for s in subset.samples} == expected | {file_sha256(copy / "good" / "new.png")}
    assert "are ones that the bundle was trained, tuned or calibrated on" in caplog.text


def test_a_bundle_that_does_not_say_what_it_has_seen_is_doubted(run, data, tmp_path, caplog):
    bundle = open_bundle(run)
    extras = {name: content for name, content in bundle.extras.items() if name != SEEN}
    old = write_bundle(tmp_path / "old.blemish", bundle.graph, bundle.manifest, extras)
    assert len(read_subset(str(data), None, None, "auto", old)) == 38
    assert "neither the data nor the bundle say which images were trained on" in caplog.text
    assert "seen" not in evaluate(Inspector.open(old), read_dataset(data), speed=False).to_dict()["data"]


def test_given_test_images_that_were_trained_on_are_counted(run, data, tmp_path, caplog):
    copy = shutil.copytree(data, tmp_path / "copy")
    rows = [f"{p.relative_to(copy)},{p.parent.name},test" for p in sorted(copy.rglob("*.png"))]
    (copy / "all.csv").write_text("\n".join(["image,label,split", *rows]) + "\n")
    subset = read_subset(str(copy / "all.csv"), None, None, "auto", find_bundle(run))
    splits = list(splits_of(run).values())
    seen = len(splits) - splits.count("test")
    assert f"{seen} of 38 test images are the same image as a training or validation image" in caplog.text
    counts = evaluate(Inspector.open(run), subset, speed=False).to_dict()["data"]["seen"]
    assert counts == {split: splits.count(split) for split in ("train", "tuning", "val")}


def test_other_images_of_a_part_that_was_trained_on_are_said(data, tmp_path, caplog):
    rows = ["image,label,split,group"]
    for i in range(30):
        rows.append(f"{data}/good/{i:02}.png,good,{'val' if i % 3 == 2 else 'train'},part {i}")
    (tmp_path / "train.csv").write_text("\n".join(rows) + "\n")
    run = learn(tmp_path / "train.csv", tmp_path / "run")
    for i in range(6):
        draw(tmp_path / f"again{i}.png", 500 + i)
    rows = [f"again{i}.png,good,part {i if i < 4 else 100 + i}" for i in range(6)]
    (tmp_path / "later.csv").write_text("\n".join(["image,label,group", *rows]) + "\n")
    subset = read_subset(str(tmp_path / "later.csv"), None, None, "auto", find_bundle(run))
    (doubt,) = [line for line in subset.doubts if "of parts (groups)" in line]
    assert doubt in evaluate(Inspector.open(run), subset, speed=False).to_dict()["data"]["warnings"]
    assert "4 of 6 test images are of parts (groups) of which others were trained or calibrated on" in caplog.text


def test_views_evaluates_only_parts_of_which_no_bundle_has_seen_an_image(run, data, tmp_path, caplog, monkeypatch):
    """The run's images are the view "top" of a part each, others the view "side", which has a bundle of its own."""
    rows, splits = ["image,label,group,view"], splits_of(run)
    for i in range(30):
        draw(tmp_path / f"side{i}.png", 800 + i)
        rows += [f"{data}/good/{i:02}.png,good,part {i},top", f"side{i}.png,good,part {i},side"]
    (tmp_path / "parts.csv").write_text("\n".join([*rows, ""]))
    seen = {content_hash(tmp_path / "side7.png")[:16]: "train"}
    graph, manifest = open_bundle(run).graph, open_bundle(run).manifest
    side = write_bundle(tmp_path / "side.blemish", graph, manifest, {SEEN: pack_seen(seen)})
    alone = shutil.copy(find_bundle(run), tmp_path / "alone.blemish")
    expected = {f"part {i}" for i in range(30) if i != 7 and splits[data / "good" / f"{i:02}.png"] == "test"}
    subset = read_subset(str(tmp_path / "parts.csv"), None, None, "auto", {"top": alone, "side": side})
    assert {s.group for s in subset.samples} == expected
    assert len(subset) == 2 * len(expected)
    assert "too good" not in caplog.text
    text = [row + (",split" if not i else ",test") for i, row in enumerate(rows)]
    (tmp_path / "parts.csv").write_text("\n".join([*text, ""]))
    command = ("views", tmp_path / "parts.csv", "--view", f"top={alone}", "--view", f"side={side}")
    monkeypatch.setattr("sys.argv", ["blemish", *map(str, command)])
    with pytest.raises(SystemExit) as left:
        main()
    assert left.value.code == 0
    trained = sum(splits[data / "good" / f"{i:02}.png"] != "test" for i in range(30))
    assert f"{trained} of 30 test images are the same image as a training or validation image" in caplog.text
    assert "1 of 30 test images are the same image as a training or validation image" in caplog.text


def test_test_images_that_are_nearly_trained_ones_are_said(run, data, tmp_path, caplog):
    trained = [image for image, split in splits_of(run).items() if split == "train"][:3]
    folder = tmp_path / "later" / "good"
    folder.mkdir(parents=True)
    for i, image in enumerate(trained):
        brighter = cv2.convertScaleAbs(cv2.imread(str(image)), alpha=0.9, beta=12)
        cv2.imwrite(str(folder / f"again{i}.jpg"), brighter, [cv2.IMWRITE_JPEG_QUALITY, 90])
    draw(folder / "other.png", 700)
    read_subset(str(tmp_path / "later"), None, None, "auto", find_bundle(run))
    (line,) = [r.getMessage() for r in caplog.records if "nearly the same" in r.getMessage()]
    assert line.startswith("6 images are nearly the same as others in another split")
    assert any(f"{folder}/again{i}.jpg (test) and {trained[i]} (train)" in line for i in range(3))
    assert "other.png" not in caplog.text


def test_an_evaluation_says_where_near_duplicates_of_trained_images_were_not_looked_for(run, data, monkeypatch):
    monkeypatch.setattr(duplicates, "MAX_NEAR_IMAGES", 10)
    subset = read_subset(str(data), None, None, "auto", find_bundle(run))
    about = evaluate(Inspector.open(run), subset, speed=False).to_dict()["data"]
    (line,) = [line for line in about["warnings"] if "near duplicates" in line]
    assert line.startswith("near duplicates are not looked for among 38 images, more than 10")  # each of them once
    assert line in data_warnings(about, translator("en"))


def test_without_images_to_calibrate_a_compressed_bundle_on_the_ways_out_are_named(run, data, tmp_path):
    rows = [f"{image},{'good' if image.parent.name == 'good' else 'dent'},train" for image in splits_of(run)]
    (tmp_path / "split.csv").write_text("\n".join(["image,label,split", *rows]) + "\n")  # as of a cross-fitted run
    bundle = open_bundle(shutil.copy(find_bundle(run), tmp_path / "run.blemish"))
    with pytest.raises(OptionError, match=r"no validation images .* --calibration held-out, or give images .* --data"):
        find_images(bundle, None)
    learnt = [Sample(image, "good") for image, split in splits_of(run).items() if split in ("train", "tuning")]
    with pytest.raises(OptionError, match=rf"none of the {len(learnt)} images of --data is left .* held-out"):
        find_images(bundle, Dataset(tuple(learnt), data, "csv"))
    draw(tmp_path / "new.png", 997)
    found = find_images(bundle, Dataset((*learnt, Sample(tmp_path / "new.png", "good")), data, "csv"))
    assert [s.image for s in found.compared.samples] == [tmp_path / "new.png"]


def test_a_run_that_starts_from_another_keeps_its_splits(run, data, tmp_path, caplog):
    copy = shutil.copytree(data, tmp_path / "copy")
    draw(copy / "good" / "new.png", 998)
    second = learn(copy, tmp_path / "second", start=str(run), seed=1)
    first, other = (
        {file_sha256(i): s for i, s in splits_of(own).items()} for own in (run, second)
    )  # fmt: skip
    assert {key: other[key] for key in first} == first
    assert other[file_sha256(copy / "good" / "new.png")] == "train"
    assert "were trained on by the run" not in caplog.text


def test_given_splits_that_hold_out_what_the_first_run_trained_on_are_said(run, data, tmp_path, caplog):
    swapped = {"train": "val", "tuning": "train", "val": "train", "test": "test"}
    rows = [f"{image},{image.parent.name},{swapped[split]}" for image, split in splits_of(run).items()]
    (tmp_path / "swapped.csv").write_text("\n".join(["image,label,split", *rows]) + "\n")
    second = learn(tmp_path / "swapped.csv", tmp_path / "second", start=str(run))
    assert "were trained on by the run that this one starts from" in caplog.text
    # What the first run saw, the second one's bundle has seen, whatever it does with it.
    first, seen = unpack_seen(open_bundle(run)), unpack_seen(open_bundle(second))
    assert all(seen[key] == "train" for key, split in first.items() if split == "train")


def test_of_two_splits_of_an_image_the_first_counts():
    assert join_seen({"a": "val", "b": "tuning"}, {"a": "train", "c": "val"}) == {
        "a": "train", "b": "tuning", "c": "val"
    }  # fmt: skip


def test_a_run_is_not_resumed_with_other_images_under_the_same_names(data, tmp_path):
    copy = shutil.copytree(data, tmp_path / "copy")
    run = learn(copy, tmp_path / "run")
    find_bundle(run).unlink()
    before = (copy / "good" / "03.png").read_bytes()
    draw(copy / "good" / "03.png", 777)
    with pytest.raises(DataError, match="were changed since it began"):
        resume(run, progress=False)
    (copy / "good" / "03.png").write_bytes(before)
    resume(run, progress=False)
    assert find_bundle(run).is_file()


def test_compressing_compares_on_none_of_the_bundle_s_training_or_test_images(run, data, tmp_path):
    copy = shutil.copytree(data, tmp_path / "copy")
    for i in range(5):
        draw(copy / "good" / f"new {i}.png", 900 + i)
    images = find_images(open_bundle(run), read_dataset(copy))
    by_hash = {file_sha256(image): split for image, split in splits_of(run).items()}
    found = [by_hash.get(file_sha256(s.image), "new") for s in images.compared.samples]
    assert sorted(set(found)) == ["new", "val"]
    assert (found.count("new"), found.count("val")) == (5, list(by_hash.values()).count("val"))


def test_without_a_run_copies_of_an_image_are_on_one_side(run, data, tmp_path):
    bundle = shutil.copy(find_bundle(run), tmp_path / "alone.blemish")
    for i in range(12):
        draw(tmp_path / "images" / "good" / f"{i:02}.png", 300 + i // 2)  # each twice
    for i in range(3):
        draw(tmp_path / "images" / "dent" / f"{i}.png", 400 + i, defect=True)
    images = find_images(open_bundle(bundle), read_dataset(tmp_path / "images"))
    ranges, compared = ({file_sha256(s.image) for s in own} for own in (images.ranges, images.compared.samples))
    assert not ranges & compared
    assert len(images.ranges) == 6
    assert len(images.compared) == 9


def test_the_hash_of_a_set_covers_all_that_is_known_of_it(tmp_path):
    for i in range(4):
        draw(tmp_path / "images" / ("good" if i < 2 else "dent") / f"{i}.png", i, defect=i > 1)
    for i in (2, 3):
        mask = np.zeros((64, 64), np.uint8)
        mask[10:20, 10:20] = 255
        (tmp_path / "masks" / "dent").mkdir(parents=True, exist_ok=True)
        cv2.imwrite(str(tmp_path / "masks" / "dent" / f"{i}.png"), mask)
    dataset = read_dataset(tmp_path)
    hashes = [dataset_sha256(dataset)]
    samples = dataset.samples
    for change in ({"group": "a"}, {"mask": None}, {"product": "x"}, {"view": "top"}, {"ignore": samples[1].image}):
        own = [replace(s, **change) if s.label == "dent" else s for s in samples]
        hashes.append(dataset_sha256(dataset.with_samples(own)))
    mask = cv2.imread(str(tmp_path / "masks" / "dent" / "2.png"), cv2.IMREAD_UNCHANGED)
    cv2.imwrite(str(tmp_path / "masks" / "dent" / "2.png"), 255 - mask)
    hashes.append(dataset_sha256(dataset))
    assert len(set(hashes)) == len(hashes)
    moved = shutil.copytree(tmp_path, tmp_path.parent / f"{tmp_path.name} moved")
    assert dataset_sha256(read_dataset(moved)) == hashes[-1]
