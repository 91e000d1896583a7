"""A list of images is read as it was written, whatever the names of files and classes."""

import os
import string
from pathlib import Path

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from blemish.dataset.read import read_dataset
from blemish.dataset.sample import Dataset, Sample
from blemish.dataset.write import write_csv
from blemish.errors import DataError

byte = st.sampled_from(list(b" \t\n\r\"',;|\\\\[]{}:#%-=" + b"\xf6\xff\xc3\xa9" + string.ascii_letters.encode()))
names = st.lists(byte, min_size=1, max_size=12).map(bytes)
CLASSES = ["dent", "a|b", "|", '["dent"]', "x, y", 'say "pit"', "two\nlines", "[", "Ü|"]


@given(st.sets(names, min_size=1, max_size=5), st.lists(st.sampled_from(CLASSES), min_size=2, max_size=2, unique=True))
@example({b" leading", b"trailing \t", b"R\xf6hre", b"a\\\\b", b"c\r\nd", b'"q"', b"a,b;c\td"}, ["a|b", "dent"])
@settings(max_examples=60, deadline=None)
def test_reads_back(tmp_path_factory, stems, labels):
    folder = tmp_path_factory.mktemp("named")
    samples = []
    for number, stem in enumerate(sorted(stems)):
        path = Path(os.fsdecode(os.fsencode(folder) + b"/" + stem + b".png"))
        path.write_bytes(b"")
        label = dict(label=labels[0]) if number % 2 else dict(labels=tuple(labels))
        samples.append(Sample(path, split="train" if number else "test", template=path, group=f"g{number}", **label))
    dataset = Dataset(tuple(samples), folder, "csv")
    for relative in (False, True):
        write_csv(dataset, folder / "list.csv", relative)
        read = read_dataset(folder / "list.csv", "csv", folder)
        found = [(s.image, s.template, s.label, s.labels, s.split, s.group) for s in read.samples]
        assert found == [(s.image, s.template, s.label, s.labels, s.split, s.group) for s in samples]
        assert read.broken == ()


def test_by_hand_blanks_and_backslashes_are_no_part_of_a_name(tmp_path):
    (tmp_path / "good").mkdir()
    (tmp_path / "good" / "a.png").write_bytes(b"")
    (tmp_path / "list.csv").write_text("image , label\n good\\\\a.png , good \n")
    (sample,) = read_dataset(tmp_path / "list.csv", "csv").samples
    assert (sample.image, sample.label) == (tmp_path / "good" / "a.png", "good")


def test_a_class_that_is_no_utf8_is_refused(tmp_path):
    (tmp_path / "a.png").write_bytes(b"")
    (tmp_path / "list.csv").write_bytes(b"image,label\na.png,fl\xf6te\n")
    with pytest.raises(DataError, match=r"list\.csv is not readable as text in UTF-8"):
        read_dataset(tmp_path / "list.csv", "csv")
