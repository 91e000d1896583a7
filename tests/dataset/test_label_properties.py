"""An image is good only where something says so: no damage to an annotation makes another image good."""

import random
import tempfile
import warnings
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from layouts import LAYOUTS, Spec

from blemish.dataset.read import read_dataset
from blemish.errors import DataError, ImageError

NOISE = (b"\x00", b"\xff\xfe", b"nan", b"-7e9", b"{", b"<", b"\n\n;;", b"99")


def images(root, layout):
    """All images, and those that are good; none where the set is refused."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            samples = read_dataset(root, layout.format).samples
        except (DataError, ImageError):
            return set(), set()
    return {s.image for s in samples}, {s.image for s in samples if s.defective is False}


def damage(file, kind, where, noise):
    """Cut a file off, overwrite or insert bytes, give it another name, or put something else in its place."""
    content = file.read_bytes()
    at = 1 + int(where * max(0, len(content) - 2))
    if kind == "cut":
        file.write_bytes(content[:at])
    elif kind == "overwrite":
        file.write_bytes(content[:at] + noise + content[at + len(noise) :])
    elif kind == "insert":
        file.write_bytes(content[:at] + noise + content[at:])
    elif kind == "rename":
        file.rename(file.with_name(f"x{file.name}"))
    else:
        file.write_bytes(random.Random(where).randbytes(64))


@pytest.mark.parametrize("layout", LAYOUTS, ids=lambda layout: layout.name)
@given(data=st.data())
@settings(max_examples=8, deadline=None)
def test_no_damage_to_an_annotation_makes_a_defective_image_good(layout, data):
    with tempfile.TemporaryDirectory() as folder:
        built = layout.build(Path(folder) / "set", Spec())
        pictures, before = images(built.root, layout)
        files = [f for f in sorted(Path(folder).rglob("*")) if f.is_file() and f not in pictures]
        if not files or not before:
            return
        file = data.draw(st.sampled_from(files))
        kinds = ["cut", "overwrite", "insert", "rename", "replace"]
        # A list of rows that ends early is a list of fewer rows, and in this layout images without one are good.
        kind = data.draw(st.sampled_from(kinds[layout.format == "severstal" :]))
        damage(file, kind, data.draw(st.floats(0, 1)), data.draw(st.sampled_from(NOISE)))
        _, after = images(built.root, layout)
        assert after <= before, (file, kind, file.read_bytes() if file.exists() else "renamed")
