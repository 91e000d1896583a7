"""Duplicates and splits: the same image, or nearly the same, is on one side; what the data split wrongly is said."""

import logging
import shutil
from collections import Counter, defaultdict
from dataclasses import replace

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from blemish.dataset import duplicates
from blemish.dataset.duplicates import identical_files, identical_images, join_duplicates
from blemish.dataset.fingerprint import fingerprint
from blemish.dataset.sample import GOOD, Dataset, Sample
from blemish.dataset.split import assign_folds, check_given_splits, describe_shared, ensure_splits, shared_units
from blemish.errors import DataError
from blemish.evaluation.units import find_units
from blemish.methods.catalogue import method_class
from blemish.training.learn.prepare import make_splits
from blemish.training.ship.cross_fit import make_folds

SIDE = 48


def surface(seed, noise=0.0):
    rng = np.random.default_rng(seed)
    image = cv2.GaussianBlur(rng.normal(128, 160, (SIDE, SIDE)), (0, 0), 2)
    return (image + np.random.default_rng(seed + 7000).normal(0, noise, image.shape)).clip(0, 255).astype(np.uint8)


def dataset_of(folder, images, label=GOOD, **more):
    """Images by their names."""
    folder.mkdir(exist_ok=True)
    for name, image in images.items():
        cv2.imwrite(str(folder / name), image)
    return Dataset(tuple(Sample(folder / name, label, **more) for name in images), folder, "csv")


def sides(dataset, key):
    found = defaultdict(set)
    for s in dataset.samples:
        found[key(s)].add(s.split)
    return found


@pytest.fixture(scope="module")
def different(tmp_path_factory):
    return dataset_of(tmp_path_factory.mktemp("different"), {f"{i:02}.png": surface(i) for i in range(24)})


def nearly(image, strength):
    """The same picture, brighter, and as a JPEG."""
    _, data = cv2.imencode(".jpg", (image * 0.9 + 10).astype(np.uint8), [cv2.IMWRITE_JPEG_QUALITY, strength])
    return cv2.imdecode(data, cv2.IMREAD_GRAYSCALE)


@pytest.mark.parametrize("kind", ["identical", "near"])
@pytest.mark.parametrize("need", [False, True])
def test_twins_are_on_one_side(tmp_path, kind, need):
    images = {}
    for i in range(20):
        images[f"a{i:02}.png"] = surface(i)
        images[f"b{19 - i:02}.png"] = surface(i) if kind == "identical" else nearly(surface(i), 80)
    dataset = dataset_of(tmp_path / "d", images)
    done = ensure_splits(dataset, need_defects_in_training=need)
    pair = {f"b{19 - i:02}": f"a{i:02}" for i in range(20)}
    found = sides(done, lambda s: pair.get(s.image.stem, s.image.stem))
    assert len(found) == 20
    assert all(len(own) == 1 for own in found.values())
    assert {s.split for s in done.samples} == {"train", "val", "test"}
    folds = assign_folds(dataset, 4)
    crossed = make_folds(dataset.samples, 4, seed=0)
    for i in range(20):
        a, b = (
            next(k for k, s in enumerate(dataset.samples) if s.image.stem == name)
            for name in (f"a{i:02}", f"b{19 - i:02}")
        )
        assert folds[a] == folds[b]
        assert next(f for f in crossed if a in f) == next(f for f in crossed if b in f)


def test_different_images_are_split_as_if_they_could_not_be_read(different, monkeypatch, caplog):
    caplog.set_level("INFO", "blemish")
    done, folds = ensure_splits(different, 3), assign_folds(different, 3, 3)
    assert caplog.messages == []
    monkeypatch.setattr(duplicates, "_size", lambda path: None)
    monkeypatch.setattr(duplicates, "_modified", lambda path: None)
    assert ensure_splits(different, 3) == done
    assert assign_folds(different, 3, 3) == folds


@given(
    st.lists(st.tuples(st.integers(0, 9), st.none() | st.sampled_from("xyz")), min_size=2, max_size=30),
    st.randoms(use_true_random=False),
)
@settings(max_examples=40, deadline=None)
def test_units_are_joined_transitively_in_any_order(tmp_path_factory, table, random):
    """Images of numbered content, some in groups: those that share either, by whatever chain, are one unit."""
    folder = tmp_path_factory.getbasetemp() / "numbered"
    folder.mkdir(exist_ok=True)
    samples = []
    for i, (content, group) in enumerate(table):
        path = folder / f"{i}-{content}.png"
        if not path.exists():
            path.write_bytes(bytes([content]) * 40)  # no image: only its bytes count
        samples.append(Sample(path, GOOD, group=group))
    random.shuffle(samples)
    units = join_duplicates(samples)
    label = {i: i for i in range(len(samples))}  # by repeated comparison
    for _ in samples:
        for i, one in enumerate(samples):
            for j, other in enumerate(samples):
                same = one.image.stem.split("-")[1] == other.image.stem.split("-")[1]
                if same or (one.group is not None and one.group == other.group):
                    label[i] = label[j] = min(label[i], label[j])
    assert [[units[i] == units[j] for j in label] for i in label] == [
        [label[i] == label[j] for j in label] for i in label
    ]
    done = ensure_splits(Dataset(tuple(samples), folder, "csv"), need_defects_in_training=True)
    again = ensure_splits(
        Dataset(tuple(sorted(samples, key=lambda s: s.image)), folder, "csv"), need_defects_in_training=True
    )
    assert {s.image: s.split for s in done.samples} == {s.image: s.split for s in again.samples}


def test_under_a_fixed_camera_only_identical_files_are_joined(tmp_path, caplog):
    """Two positions of the camera, 15 exposures each."""
    caplog.set_level("INFO", "blemish")
    images = {f"{i:02}.png": surface(i % 2, noise=2 + i / 10) for i in range(30)}
    images["30.png"] = images["00.png"]
    done = ensure_splits(dataset_of(tmp_path / "d", images))
    assert {s.split for s in done.samples} == {"train", "val", "test"}
    by_name = {s.image.name: s.split for s in done.samples}
    assert by_name["00.png"] == by_name["30.png"]
    assert sum("as under a fixed camera" in line for line in caplog.messages) == 2
    assert any("2 images are identical, such as" in line and "00.png and" in line for line in caplog.messages)


@pytest.mark.parametrize("quarters", range(4))
@pytest.mark.parametrize("mirrored", [False, True])
def test_copies_in_any_orientation_are_on_one_side(tmp_path, quarters, mirrored):
    images = {}
    for i in range(16):
        image = surface(i)[:, :32]  # not square
        turned = np.rot90(image[:, ::-1] if mirrored else image, quarters)
        images |= {f"{i:02}a.png": image, f"{i:02}b.png": nearly(turned, 95)}
    done = ensure_splits(dataset_of(tmp_path / "d", images), need_defects_in_training=True)
    found = sides(done, lambda s: s.image.stem[:2])
    assert len(found) == 16
    assert all(len(own) == 1 for own in found.values())


@pytest.mark.parametrize("count", [4, 30])
def test_equal_pixels_are_on_one_side_however_few_or_alike_the_images_are(tmp_path, count):
    """The same pixels in two compressions; of the many, all are of one camera position."""
    dataset = dataset_of(tmp_path / "d", {f"{i:02}a.png": surface(i if count == 4 else 0, 3 + i) for i in range(count)})
    twins = []
    for s in dataset.samples:
        twins.append(replace(s, image=s.image.with_name(s.image.stem[:2] + "b.png")))
        cv2.imwrite(str(twins[-1].image), cv2.imread(str(s.image)), [cv2.IMWRITE_PNG_COMPRESSION, 9])
        assert twins[-1].image.read_bytes() != s.image.read_bytes()
    found = sides(ensure_splits(dataset.with_samples([*dataset.samples, *twins])), lambda s: s.image.stem[:2])
    assert len(found) == count
    assert all(len(own) == 1 for own in found.values())


def test_shots_of_one_defect_stay_together_however_large_their_share_of_its_class(different, tmp_path):
    shots = dataset_of(
        tmp_path / "d", {f"{i % 2}{i:02}.png": surface(900 + i % 2, 1 + i / 10) for i in range(12)}, "crack"
    )
    done = ensure_splits(different.with_samples([*different.samples, *shots.samples]), need_defects_in_training=True)
    found = sides(done.where(lambda s: s.label == "crack"), lambda s: s.image.stem[0])
    assert [len(own) for own in found.values()] == [1, 1]


def test_a_class_whose_images_are_all_alike_is_split_since_it_could_not_be_otherwise(different, tmp_path, caplog):
    caplog.set_level("INFO", "blemish")
    shots = dataset_of(tmp_path / "d", {f"{i:02}.png": surface(900, 1 + i / 10) for i in range(12)}, "crack")
    done = ensure_splits(different.with_samples([*different.samples, *shots.samples]), need_defects_in_training=True)
    assert {s.split for s in done.samples if s.label == "crack"} == {"train", "val", "test"}
    assert "12 images are nearly the same" in caplog.text


def test_what_is_not_looked_for_is_said(different, monkeypatch, caplog):
    caplog.set_level("INFO", "blemish")
    ensure_splits(different.with_samples(different.samples[:9]))
    assert "not looked for among 9 images" in caplog.text
    monkeypatch.setattr(duplicates, "MAX_NEAR_PAIRS", 3)
    same = dataset_of(different.root / "same", {f"{i}.png": surface(i // 2, i % 2) for i in range(24)})
    ensure_splits(same)
    assert "more than 3 pairs of 24 images are alike" in caplog.text


def test_in_a_large_set_near_duplicates_are_not_looked_for_and_that_is_said(different, monkeypatch, caplog):
    caplog.set_level("INFO", "blemish")
    monkeypatch.setattr(duplicates, "MAX_NEAR_IMAGES", 23)
    monkeypatch.setattr(duplicates, "_signature", lambda *_: pytest.fail("an image was decoded"))
    ensure_splits(different)
    assert "sets of up to 23 images; of these 24" in caplog.text


def test_equal_pixels_in_a_large_set_are_one_image_too(different, monkeypatch, tmp_path):
    monkeypatch.setattr(duplicates, "MAX_NEAR_IMAGES", 23)
    copy = dataset_of(tmp_path / "copy", {"other.bmp": cv2.imread(str(different.samples[7].image), -1)})
    (tmp_path / "copy" / "torn.png").write_bytes(b"no image")
    samples = [*different.samples, *copy.samples, Sample(tmp_path / "copy" / "torn.png", GOOD)]
    assert identical_images([s.image for s in samples]) == [[7, 24]]
    units = find_units(samples)
    assert units[7] == units[24] is not None
    assert {units[i] for i in range(26) if i not in (7, 24)} == {None}


def test_an_image_without_a_split_goes_where_its_twin_is(tmp_path):
    dataset = dataset_of(tmp_path / "d", {f"{i}.png": surface(i % 6) for i in range(12)})
    splits = ["train", "train", "val", "test", "test", None] + [None] * 6
    given = dataset.with_samples(replace(s, split=split) for s, split in zip(dataset.samples, splits, strict=True))
    done = [s.split for s in ensure_splits(given).samples]
    assert done == ["train", "train", "val", "test", "test", "train"] * 2


def test_files_are_compared_by_content_alone(tmp_path):
    contents = {"a": b"x" * 70_000, "b": b"x" * 69_999 + b"y", "c": b"x" * 70_000, "d": b"x", "e": b"", "f": b""}
    paths = [tmp_path / name for name in contents]
    for path in paths:
        path.write_bytes(contents[path.name])
    assert identical_files([*paths, tmp_path / "missing", tmp_path / "missing"]) == [[0, 2], [4, 5]]


@pytest.fixture
def split_set(tmp_path):
    """Eight images for training, four for val, four for test, all of them different."""
    dataset = dataset_of(tmp_path / "d", {f"{i:02}.png": surface(i) for i in range(16)})
    splits = ["train"] * 8 + ["val"] * 4 + ["test"] * 4
    return dataset.with_samples(replace(s, split=split) for s, split in zip(dataset.samples, splits, strict=True))


def test_the_sound_twin_of_given_splits_is_left_as_it_is(split_set, caplog):
    assert check_given_splits(split_set) == split_set
    assert caplog.records == []


@pytest.mark.parametrize("other", ["val", "test"])
def test_a_file_in_two_splits_is_named(split_set, caplog, other):
    first, second = split_set.split("train").samples[3], split_set.split(other).samples[1]
    shutil.copyfile(first.image, second.image)
    assert check_given_splits(split_set) == split_set
    (record,) = caplog.records
    assert record.levelno == logging.WARNING
    assert first.image.name in record.getMessage()
    assert second.image.name in record.getMessage()


def test_validation_by_training_images_is_refused_for_thresholds(split_set):
    training = split_set.split("train").samples
    same_folder = split_set.with_samples([*training, *(replace(s, split="val") for s in training)])
    one_file = split_set.with_samples([*split_set.samples, replace(training[0], split="val")])
    for path, source in zip(split_set.split("val").samples, training, strict=False):
        shutil.copyfile(source.image, path.image)
    for wrong in (same_folder, one_file, split_set):
        with pytest.raises(DataError, match=r"validation images are training images too, such as .*\d\d\.png"):
            check_given_splits(wrong)
    kept = check_given_splits(same_folder, with_thresholds=False)
    assert list(kept.samples) == list(training)


def test_one_folder_for_validation_and_test_stays_test(split_set, caplog):
    test = split_set.split("test").samples
    both = [*split_set.split("train").samples, *(replace(s, split="val") for s in test), *test]
    kept = check_given_splits(split_set.with_samples(both))
    assert [s.split for s in kept.samples] == ["train"] * 8 + ["test"] * 4
    assert "same file in several splits" in caplog.text


@pytest.mark.parametrize("splits", [("train", "test"), ("train", "val"), ("val", "test"), ("tuning", "test")])
def test_a_group_in_two_splits_is_refused(split_set, splits):
    first, second = (replace(split_set.samples[i], split=split, group="part 7") for i, split in enumerate(splits))
    others = [replace(s, group=f"part {i}") for i, s in enumerate(split_set.samples[2:], 20)]
    blank = replace(split_set.samples[0], image=split_set.root / "blank.png", split=None, group="part 20")
    words = f"1 of 15 groups .* 'part 7': .*{first.image.name} .{splits[0]}. and .*{second.image.name} .{splits[1]}.;"
    for with_thresholds in (False, True):
        with pytest.raises(DataError, match=words):
            check_given_splits(split_set.with_samples([first, second, *others, blank]), with_thresholds)
    with pytest.raises(DataError, match="1 of 15 groups"):
        fingerprint(split_set.with_samples([first, second, *others]))
    whole = split_set.with_samples([first, replace(second, split=first.split), *others, blank])
    assert check_given_splits(whole, with_thresholds=False).samples == whole.samples
    drawn = replace(second, sources=(first.image,))  # not real, and left out where its source is held out
    assert check_given_splits(split_set.with_samples([first, drawn, *others])).samples[0] == first


@given(st.lists(st.tuples(st.integers(0, 6), st.sampled_from("xyz-"), st.sampled_from("ab-")), min_size=1, max_size=20))
@settings(max_examples=60, deadline=None)
def test_shared_units_are_those_of_comparing_all_pairs(tmp_path_factory, table):
    """Images of numbered content, some in groups and splits."""
    folder = tmp_path_factory.getbasetemp() / "shared"
    folder.mkdir(exist_ok=True)
    samples = []
    for i, (content, group, split) in enumerate(table):
        path = folder / f"{i}-{content}.png"
        path.write_bytes(bytes([content]) * 40)
        names = {"a": "train", "b": "test", "-": None}
        samples.append(Sample(path, GOOD, group=None if group == "-" else group, split=names[split]))
    units = shared_units(samples)
    for kind, column in (("identical", 0), ("group", 1)):
        values = {row[column] for row in table} - {"-"}
        together = [[i for i, row in enumerate(table) if row[column] == value] for value in values]
        expected = [own for own in together if {"a", "b"} <= {table[i][2] for i in own}]
        assert sorted(unit.members for unit in units if unit.kind == kind) == sorted(expected)


def test_near_duplicates_in_two_given_splits_are_said(different, tmp_path, caplog):
    copies = dataset_of(tmp_path / "d", {f"{i:02}b.png": nearly(surface(i), 80) for i in range(24)})
    for count in (24, 1):
        caplog.clear()
        test = [replace(s, split="test") for s in copies.samples[:count]]
        both = different.with_samples([*(replace(s, split="train") for s in different.samples), *test])
        assert check_given_splits(both) == both
        (record,) = caplog.records
        assert record.levelno == logging.WARNING
        assert record.getMessage().startswith(f"{2 * count} images are nearly the same as others in another split")
        assert f"{different.samples[0].image} (train) and {copies.samples[0].image} (test)" in record.getMessage()
        assert describe_shared(both.samples, shared_units(both.samples)) == [record.getMessage()]


def test_equal_pixels_in_training_and_validation_are_refused_for_thresholds(split_set):
    for one, other in zip(split_set.split("val").samples, split_set.split("train").samples, strict=False):
        cv2.imwrite(str(one.image), cv2.imread(str(other.image)), [cv2.IMWRITE_PNG_COMPRESSION, 9])
    with pytest.raises(DataError, match="validation images are training images too"):
        check_given_splits(split_set)


def test_defects_that_a_fixed_camera_makes_alike_are_split_with_a_warning(tmp_path, caplog):
    good = dataset_of(tmp_path / "d", {f"{i:02}.png": surface(0, 1 + i / 10) for i in range(20)})
    cracks = dataset_of(tmp_path / "d", {f"c{i:02}.png": surface(0, 4 + i / 10) for i in range(6)}, "crack")
    other = dataset_of(tmp_path / "d", {f"o{i:02}.png": surface(50 + i) for i in range(6)})
    data = good.with_samples([*good.samples, *cracks.samples, *other.samples])
    split = make_splits(data, [method_class("unet")], 0, 0.2)
    assert len({s.split for s in split.samples if s.label == "crack"}) > 1
    (warning,) = [r.getMessage() for r in caplog.records if r.levelno == logging.WARNING]
    assert warning.startswith("6 defective images are nearly the same as others in another split")
    make_splits(data.with_samples([*good.samples, *other.samples]), [method_class("padim")], 0, 0.2)
    assert sum(r.levelno == logging.WARNING for r in caplog.records) == 1  # no word where good ones are split


def test_images_of_one_set_are_decoded_and_compared_once(tmp_path, monkeypatch):
    """However often splits are checked, made and described, and in whatever order the images are given."""
    calls = Counter()
    for name in ("read_image", "oriented_pairs"):
        function = getattr(duplicates, name)

        def counted(*args, name=name, function=function):
            calls[name] += 1
            return function(*args)

        monkeypatch.setattr(duplicates, name, counted)
    data = dataset_of(tmp_path / "d", {f"{i:02}.png": surface(300 + i) for i in range(20)})
    names = ["train"] * 12 + ["val"] * 4 + ["test"] * 4
    split = data.with_samples(replace(s, split=name) for s, name in zip(data.samples, names, strict=True))
    made = make_splits(split, [method_class("padim")], 0, 0.2)
    assert describe_shared(made.samples, shared_units(made.samples[::-1])) == []
    assert calls == {"read_image": 20, "oriented_pairs": 1}
