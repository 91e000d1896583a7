"""Splits by property: groups whole, given splits kept, classes in every split, the same whatever the order."""

import shutil
from collections import Counter, defaultdict
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from blemish.dataset.sample import GOOD, Dataset, Sample
from blemish.dataset.split import assign_folds, ensure_splits, hold_out_for_tuning
from blemish.dataset.synthetic_samples import real_images
from blemish.errors import DataError
from blemish.methods.catalogue import method_class
from blemish.training.learn.prepare import make_splits

labels = st.sampled_from([GOOD, GOOD, GOOD, "dent", "scratch", None])
rows = st.lists(
    st.tuples(labels, st.none() | st.integers(0, 12).map(str), st.sampled_from([None, "train", "val", "test"])),
    min_size=1,
    max_size=80,
)
shares = st.sampled_from([0.0, 0.1, 0.2, 0.3])


def dataset_of(table, with_splits):
    samples = [
        Sample(Path(f"{i:03}.png"), label=label, group=group, split=split if with_splits else None)
        for i, (label, group, split) in enumerate(table)
    ]
    return Dataset(tuple(samples), Path("/data"), "csv")


def groups_of(dataset):
    found = defaultdict(set)
    for s in dataset.samples:
        found[s.group or s.image].add(s.split)
    return found


@given(rows, st.booleans(), st.integers(0, 5), shares, shares, st.booleans())
@settings(max_examples=200, deadline=None)
def test_every_sample_gets_a_split_and_nothing_else_changes(table, with_splits, seed, val, test, need):
    dataset = dataset_of(table, with_splits)
    done = ensure_splits(dataset, seed, val, test, need)
    assert [s.image for s in done.samples] == [s.image for s in dataset.samples]
    for before, after in zip(dataset.samples, done.samples, strict=True):
        assert after.split in ("train", "val", "test")
        assert (before.label, before.group) == (after.label, after.group)
        if before.split in ("val", "test"):
            assert after.split == before.split
        if before.split == "train":
            assert after.split in ("train", "val")  # a validation set is cut from training, never from test
    assert ensure_splits(done, seed + 1, val, test, need).samples == done.samples or "val" not in {
        s.split for s in done.samples
    }


@given(rows, st.integers(0, 5), st.booleans(), st.randoms(use_true_random=False))
@settings(max_examples=200, deadline=None)
def test_groups_stay_whole_and_the_order_does_not_matter(table, seed, need, random):
    dataset = dataset_of(table, with_splits=False)
    done = ensure_splits(dataset, seed, need_defects_in_training=need)
    assert all(len(splits) == 1 for splits in groups_of(done).values())
    shuffled = list(dataset.samples)
    random.shuffle(shuffled)
    again = ensure_splits(dataset.with_samples(shuffled), seed, need_defects_in_training=need)
    assert {s.image: s.split for s in again.samples} == {s.image: s.split for s in done.samples}


@given(st.dictionaries(st.sampled_from([GOOD, "a", "b", "c"]), st.integers(1, 60), min_size=1), st.integers(0, 5))
@settings(max_examples=100, deadline=None)
def test_single_images_are_stratified(counts, seed):
    table = [(label, None, None) for label, count in counts.items() for _ in range(count)]
    done = ensure_splits(dataset_of(table, False), seed, need_defects_in_training=True)
    found = Counter((s.label, s.split) for s in done.samples)
    for label, count in counts.items():
        for split, share in (("train", 0.6), ("val", 0.2), ("test", 0.2)):
            assert abs(found[label, split] - share * count) <= 1.5
            assert found[label, split] >= (count >= 3)
        assert found[label, "train"] >= 1


@given(st.integers(2, 60), st.integers(1, 20), st.integers(0, 5))
@settings(max_examples=60, deadline=None)
def test_good_only_learning_sends_all_defects_to_test(good, bad, seed):
    table = [(GOOD, None, None)] * good + [("dent", None, None)] * bad
    done = ensure_splits(dataset_of(table, False), seed)
    assert all(s.split == "test" for s in done.samples if s.label == "dent")
    assert any(s.split == "train" for s in done.samples)


def test_parts_that_nearly_all_have_a_defect_still_leave_good_ones_to_train():
    table = [(GOOD if i % 8 else "defect", f"kos{i // 8:02}", None) for i in range(400)]
    done = ensure_splits(dataset_of(table, False))
    counts = Counter((s.split, s.label) for s in done.samples)
    assert counts["train", GOOD] == 210
    assert counts["test", "defect"] == 10
    assert all(len(splits) == 1 for splits in groups_of(done).values())


@given(rows, st.booleans(), st.lists(st.lists(st.integers(0, 90), min_size=1, max_size=3), max_size=40), st.booleans())
@settings(max_examples=100, deadline=None)
def test_synthetic_images_are_for_training_only_and_contain_nothing_held_out(table, with_splits, made_of, need):
    real = dataset_of(table, with_splits)
    drawn = [
        Sample(Path(f"drawn{n}.png"), "dent", "train", sources=tuple(Path(f"{i:03}.png") for i in own))
        for n, own in enumerate(made_of)
    ]
    alone = ensure_splits(real, 1, need_defects_in_training=need)
    done = ensure_splits(real.with_samples([*drawn, *real.samples]), 1, need_defects_in_training=need)
    assert [s for s in done.samples if s.sources is None] == list(alone.samples)
    training = {s.image for s in alone.samples if s.split == "train"}
    kept = [s for s in drawn if set(s.sources) <= training]  # sources that are no image of the data are not found
    assert [s for s in done.samples if s.sources is not None] == kept


@pytest.fixture
def files(tmp_path):
    """Forty different files, a third of them for training."""
    samples = []
    for i in range(40):
        path = tmp_path / "data" / f"{i:02}.png"
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(bytes([i]) * 50)
        samples.append(Sample(path, (GOOD, "dent")[i % 2], ("train", "val", "test")[i % 3]))
    return Dataset(tuple(samples), tmp_path / "data", "csv")


def drawn_from(paths, split="train"):
    return [Sample(Path(f"drawn{i:02}.png"), "dent", split, sources=(path,)) for i, path in enumerate(paths)]


@pytest.mark.parametrize("named", ["as listed", "by a link", "as copies"])
def test_sources_are_known_by_whatever_path(files, tmp_path, named):
    folder = {"as listed": files.root, "by a link": tmp_path / "link", "as copies": tmp_path / "copies"}[named]
    if named == "by a link":
        folder.symlink_to(files.root)
    elif named == "as copies":
        shutil.copytree(files.root, folder)
    drawn = drawn_from(folder / s.image.name for s in files.samples)
    done = ensure_splits(files.with_samples([*files.samples, *drawn]))
    kept = [s.image.stem for s in done.samples if s.sources]
    assert kept == [f"drawn{i:02}" for i in range(0, 40, 3)]
    tuned = hold_out_for_tuning(done, 0.3)
    held = {s.image.name for s in tuned.split("tuning").samples}
    assert held
    kept = [s.sources[0].name for s in tuned.samples if s.sources]
    assert sorted([*kept, *held]) == [f"{i:02}.png" for i in range(0, 40, 3)]


def test_no_synthetic_image_is_held_out_and_each_that_is_left_out_is_said(files, caplog):
    """Of sources in training, of those nowhere, of another file, of a part that is held out, and for other splits."""
    real = [replace(s, group=f"part {i // 6 * 3 + i % 3}") for i, s in enumerate(files.samples)]
    other = files.root.parent / "other.png"
    other.write_bytes(b"other")
    own = real[0].image
    good = [*drawn_from([own, other]), *drawn_from([own], None)]
    bad = [*drawn_from([files.root / "nowhere.png"] * 3), replace(drawn_from([other])[0], group="part 1")]
    apart = [s for split in ("val", "test", "tuning") for s in drawn_from([own], split)]
    done = ensure_splits(files.with_samples([*real, *good, *bad, *apart]))
    assert [s for s in done.samples if s.sources] == [replace(s, split="train") for s in good]
    lines = [line for line in caplog.messages if "synthetic images are left out" in line]
    assert sorted(line[0] for line in lines) == ["1", "3", "3"]
    assert any("nowhere.png" in line for line in lines)
    test = files.with_samples([*(replace(s, split="test") for s in real), *drawn_from([s.image for s in real])])
    assert ensure_splits(test).samples == tuple(replace(s, split="test") for s in real)


def test_synthetic_images_alone_are_refused(files, caplog):
    drawn = drawn_from([s.image for s in files.samples])
    for refuse in (real_images, lambda data: make_splits(data, [method_class("unet")], 0, 0.2)):
        with pytest.raises(DataError, match="all 40 images are synthetic"):
            refuse(files.with_samples(drawn))
    assert real_images(files) == files
    assert caplog.messages == []
    assert real_images(files.with_samples([*drawn, *files.samples])) == files
    assert "40 synthetic images" in caplog.text


def test_no_fold_holds_a_synthetic_image_or_what_one_shows():
    from blemish.training.comparison.setup import make_fold_splits

    real = [Sample(Path(f"{i}.png"), ("good", "dent")[i % 2], "train") for i in range(40)]
    drawn = [Sample(Path(f"drawn{i}.png"), "dent", "train", sources=(Path(f"{i}.png"),)) for i in range(40)]
    seen = Counter()
    for part in make_fold_splits(Dataset((*real, *drawn), Path("/data"), "csv"), 4, 0):
        held = {s.image for s in part.samples if s.split != "train"}
        extra = [s for s in part.samples if s.sources is not None]
        assert {s.split for s in extra} == {"train"}
        assert not held & {s.image for s in extra}
        assert {s.sources[0] for s in extra} == {s.image for s in part.split("train").samples if s.sources is None}
        seen.update(s.image for s in part.split("test").samples)
    assert seen == {s.image: 1 for s in real}


def test_seeds_differ():
    table = [(GOOD, None, None)] * 50
    splits = [[s.split for s in ensure_splits(dataset_of(table, False), seed).samples] for seed in range(3)]
    assert splits[0] != splits[1] != splits[2]


def test_blank_rows_follow_their_group():
    table = [(GOOD, "1", "test"), (GOOD, "1", None), (GOOD, "2", None), (GOOD, "3", "val")]
    done = ensure_splits(dataset_of(table, True))
    assert [s.split for s in done.samples] == ["test", "test", "train", "val"]


def product_table(sizes, split=None):
    """So many good images of each product, and a dent in each."""
    return [
        Sample(Path(f"{name}{i:03}.png"), GOOD if i else "dent", product=name, split=split)
        for name, count in sizes.items()
        for i in range(count + 1)
    ]


@pytest.mark.parametrize("split", [None, "train"])
@pytest.mark.parametrize("seed", range(5))
def test_every_product_reaches_every_split(split, seed):
    """Products are stratified each; a label that is too rare in each is shared out over all of them."""
    sizes = {"large": 120, "middle": 30, "small": 4, "tiny": 3}
    samples = product_table(sizes, split)
    done = ensure_splits(Dataset(tuple(samples), Path("/data"), "csv"), seed, need_defects_in_training=True)
    found = Counter((s.product, s.split) for s in done.samples if s.label == GOOD)
    shares = {"train": 0.6, "val": 0.2, "test": 0.2} if split is None else {"train": 0.8, "val": 0.2}
    for product, count in sizes.items():
        for name, share in shares.items():
            assert found[product, name] >= 1
            assert abs(found[product, name] - share * count) <= 1.5
    assert {s.split for s in done.samples if s.label == "dent"} == set(shares)
    again = ensure_splits(done, seed + 1)  # splits that are given stay
    assert again.samples == done.samples


def test_folds_share_out_the_images_of_each_product():
    sizes = {"large": 40, "small": 4}
    samples = tuple(s for s in product_table(sizes) if s.label == GOOD)
    for seed in range(5):
        numbers = assign_folds(Dataset(samples, Path("/data"), "csv"), 4, seed)
        found = Counter((s.product, number) for s, number in zip(samples, numbers, strict=True))
        assert found == {(product, fold): count // 4 for product, count in sizes.items() for fold in range(4)}


@pytest.mark.parametrize("product", [None, "all"])
def test_without_products_or_with_one_alone_the_split_is_by_label_and_group(product):
    """The split without products is unchanged: existing runs must keep their data."""
    table = [
        ((GOOD, GOOD, GOOD, "dent", "scratch")[i * i % 11 % 5], str(i % 4) if i % 5 < 2 else None, None)
        for i in range(40)
    ]
    dataset = dataset_of(table, False)
    dataset = dataset.with_samples(replace(s, product=product) for s in dataset.samples)
    expected_splits = {
        False: "xxxxvxxtxxxxtxxxxxxxxxttxxxxxvxxttxxxtxx",
        True: "vxxvvxttttttttttvvttvxxvxxtxtxttttvtvttt",
    }
    for need, expected in expected_splits.items():
        done = ensure_splits(dataset, seed=2, need_defects_in_training=need)
        assert "".join({"train": "t", "val": "v", "test": "x"}[str(s.split)] for s in done.samples) == expected
    assert "".join(map(str, assign_folds(dataset, 3, seed=2))) == "1212120000021102100012201201110210121202"
