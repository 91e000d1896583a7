"""Damaged annotation files of every format: no traceback, and no good label out of nothing."""

import shutil
import warnings

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from layouts import LAYOUTS, SIZE, Spec, defective

from blemish.dataset.labels import LabelEvidence
from blemish.dataset.read import read_dataset
from blemish.errors import BlemishError

TEXTS = [layout for layout in LAYOUTS if layout.has_text or layout.name in ("visa", "dagm", "real-iad")]
TOKENS = (
    b"",
    b"nan",
    b"-1",
    b"1e400",
    b"null",
    b"0",
    b"good",
    b"\xff",
    b"\0",
    b"{",
    b"]",
    b"<",
    b'"',
    b"\n",
    b"\xc3\xbc",
)
EDITS = st.lists(
    st.tuples(
        st.sampled_from(["cut", "drop", "flip", "insert", "swap lines", "double"]),
        st.floats(0, 1), st.floats(0, 1), st.sampled_from(TOKENS),
    ),
    min_size=1, max_size=3,
)  # fmt: skip


def damage(data, edits):
    for kind, first, second, token in edits:
        at, end = sorted((int(first * len(data)), int(second * len(data))))
        if kind == "cut":
            data = data[: max(at, 1)]
        elif kind == "drop":
            data = data[:at] + data[min(end, at + 40) :]
        elif kind == "flip" and data:
            at = min(at, len(data) - 1)
            data = data[:at] + bytes([data[at] ^ (1 << (end % 8))]) + data[at + 1 :]
        elif kind == "insert":
            data = data[:at] + token + data[at:]
        elif kind == "swap lines":
            lines = data.split(b"\n")
            a, b = int(first * (len(lines) - 1)), int(second * (len(lines) - 1))
            lines[a], lines[b] = lines[b], lines[a]
            data = b"\n".join(lines)
        else:
            data = data[:end] + data[at:end] + data[end:]
    return data


def fuzz(layout, root, edits):
    """The defective image's annotation is damaged: it may be read, set aside or refused, but is not good by that.

    What a damaged text says is not known: a class may have become "good" and a row may be gone whole, where the lack of
    one means good. Neither is tried here.
    """
    if root.exists():
        shutil.rmtree(root)
    built = layout.build(
        root, Spec(items=(defective("c", "dent", (6, 4, 16, 12)), defective("d", "pit", (2, 2, 9, 9))))
    )
    file = built.notes.get("c") or built.shared[0]
    before = file.read_bytes()
    data = damage(before, edits)
    file.write_bytes(data)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            dataset = read_dataset(built.root, layout.format)
        except BlemishError as error:
            assert "\n" not in str(error)  # noqa: PT017
            return
    said = b"good" in data and b"good" not in before
    blank = layout.blank_is_good and not data.strip()
    emptied = (LabelEvidence.EMPTY_ANNOTATION, LabelEvidence.CONVENTION, LabelEvidence.COLUMN)
    for sample in dataset.samples:
        if sample.defective is False and not said and not blank:
            assert sample.evidence in emptied, (sample, dataset.broken)
            assert data.count(b"c.") < before.count(b"c.") or len(data) < len(before) or layout.kind == "label"


@pytest.mark.parametrize("layout", TEXTS, ids=lambda y: y.name)
def test_a_damaged_annotation_makes_no_image_good(layout, tmp_path):
    @settings(max_examples=12, deadline=None, suppress_health_check=list(HealthCheck))
    @given(EDITS)
    def run(edits):
        fuzz(layout, tmp_path / "set", edits)

    run()


@pytest.mark.slow
@pytest.mark.parametrize("layout", TEXTS, ids=lambda y: y.name)
def test_many_damaged_annotations(layout, tmp_path):
    @settings(max_examples=1000, deadline=None, suppress_health_check=list(HealthCheck))
    @given(EDITS)
    def run(edits):
        fuzz(layout, tmp_path / "set", edits)

    run()


def test_the_fuzzer_damages():
    assert damage(b"a\nb", [("swap lines", 0, 1, b"")]) == b"b\na"
    assert SIZE == (24, 32)
