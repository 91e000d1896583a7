"""Studies as files, through the command."""

import csv
import json

import numpy as np
import pytest
from worked_examples import AIAG_GRR, AIAG_LINEARITY

from blemish.errors import DataError
from blemish.qualify.study import read_study


def write(path, header, rows):
    with path.open("w", newline="", encoding="utf-8") as stream:
        csv.writer(stream).writerows([header, *rows])
    return path


@pytest.fixture
def grr_file(tmp_path):
    """Rows in random order, as they are measured."""
    rows = [[f"p{p}", "ABC"[a], r + 1, AIAG_GRR[p, a, r]] for p, a, r in np.ndindex(AIAG_GRR.shape)]
    np.random.default_rng(0).shuffle(rows)
    return write(tmp_path / "study.csv", ["part", "appraiser", "repeat", "value"], rows)


def test_a_study_in_any_order(run, grr_file, tmp_path):
    code, out = run("gauge", grr_file, "--json", tmp_path / "out.json", "--tolerance", 8)
    assert code == 0, out.err
    data = json.loads((tmp_path / "out.json").read_text())
    assert data["variable"]["ndc"] == 4
    sigmas = {one["name"]: one["sigma"] for one in data["variable"]["components"]}
    assert sigmas["GRR"] == pytest.approx(0.302373, abs=2e-6)
    assert "ndc 4" in out.out


def test_linearity_and_type_one_by_their_columns(run, tmp_path):
    reference, values = AIAG_LINEARITY
    rows = [[k, v, r] for k, r in enumerate(reference) for v in values[k]]
    file = write(tmp_path / "line.csv", ["part", "value", "reference"], rows)
    assert run("gauge", file, "--json", tmp_path / "out.json")[0] == 0
    assert set(json.loads((tmp_path / "out.json").read_text())) == {"study", "variable", "linearity"}
    file = write(tmp_path / "one.csv", ["part", "value", "reference"], rows[:12])
    code, out = run("gauge", file, "--tolerance", 4)
    assert code == 0
    assert "Cgk" in out.out


def test_verdicts(run, tmp_path):
    rows = [[p, a, "good" if p % 2 else "reject", "good" if p % 2 else "reject"] for p in range(20) for a in "AABB"]
    file = write(tmp_path / "study.csv", ["part", "appraiser", "verdict", "reference"], rows)
    code, out = run("gauge", file)
    assert code == 0
    assert "A: miss rate" in out.out
    code, out = run("gauge", file, "--kind", "type-1")
    assert (code, out.err) == (2, "blemish: --kind type-1 needs a column value; the study has verdicts\n")


@pytest.mark.parametrize(
    ("header", "rows", "message"),
    [
        (["part", "valeu"], [[1, 2]], "unknown column 'valeu'; did you mean value?"),
        (["part", "value"], [], "a study has a header"),
        (["part", "value", "verdict"], [[1, 2, "ok"]], "either a column value or a column verdict"),
        (["part", "value"], [[1, "x"]], "line 2: value 'x' is no number"),
        (["part", "value"], [[1, "nan"]], "line 2: value 'nan' is no number"),
        (["part", "value"], [["", 1]], "must not be empty"),
        (["part", "repeat", "value"], [[1, 1, 2], [1, 1, 3]], "part 1, appraiser 1, repeat 1 occurs twice"),
        (
            ["part", "appraiser", "value"],
            [[1, "A", 2], [1, "B", 2], [2, "A", 2]],
            "part 2 has the repeats none of appraiser B",
        ),
        (["part", "value", "reference"], [[1, 1, 1], [1, 1, 2]], "has two references"),
        (["part", "value", "reference"], [[1, 1, 1], [2, 1, ""]], "part 2 has no reference"),
    ],
)
def test_faults_of_a_file_are_named(tmp_path, header, rows, message):
    with pytest.raises(DataError) as error:
        read_study(write(tmp_path / "s.csv", header, rows))
    assert message in str(error.value)


def test_a_missing_file(tmp_path):
    with pytest.raises(DataError, match="cannot be read"):
        read_study(tmp_path / "none.csv")
