"""Defect specifications: reading, and one clear line about each mistake."""

import pytest

from blemish.errors import OptionError
from blemish.synthesis.defect_spec import KINDS, parse_defect_spec, read_defect_spec, spec_labels, with_default_label


def test_a_list_of_steps_is_a_specification(tmp_path):
    path = tmp_path / "r.yaml"
    path.write_text("- {kind: scratch, p: 0.5, length: [0.1, 0.2]}\n- {kind: light}\n")
    spec = read_defect_spec(path)
    assert [step.kind for step in spec.steps] == ["scratch", "light"]
    assert spec.changes_images
    assert not spec.has_paste


def test_every_kind_has_defaults_and_survives_its_own_yaml():
    spec = parse_defect_spec([{"kind": kind} for kind in KINDS])
    assert len(KINDS) == 16
    assert parse_defect_spec(spec.model_dump(mode="json")) == spec


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ([{"kind": "scrach"}], "did you mean scratch"),
        ([{"kind": "scratch", "length": [0.5, 0.1]}], "smaller to the larger"),
        ([{"kind": "scratch", "lenght": [0.1, 0.2]}], "lenght"),
        ([{"kind": "scratch", "p": 2}], "less than or equal to 1"),
        ([], "steps"),
        ("scratch", "no steps"),
        (["scratch"], "steps"),
        ({"steps": [{"kind": "pit"}], "pick": [0, 1]}, "pick"),
        ({"steps": 3}, "steps"),
        ([{"kind": "scratch", "length": [0.1, float("inf")]}], "finite"),
        ([{"kind": "scratch", "label": "OK"}], "cannot be the class of a defect"),
        ([{"kind": "scratch", "label": "a|b"}], "cannot be the class of a defect"),
    ],
)
def test_a_mistake_is_one_line(content, words):
    with pytest.raises(OptionError, match=words) as caught:
        parse_defect_spec(content)
    assert "\n" not in str(caught.value)


def test_one_number_is_a_range_of_itself():
    spec = parse_defect_spec({"steps": [{"kind": "pit", "length": 0.2, "count": 3}], "pick": 1})
    assert spec == parse_defect_spec(
        {"steps": [{"kind": "pit", "length": [0.2, 0.2], "count": [3, 3]}], "pick": [1, 1]}
    )


def test_a_missing_file_is_one_line(tmp_path):
    with pytest.raises(OptionError, match="cannot be read"):
        read_defect_spec(tmp_path / "no.yaml")


def test_classes_of_steps():
    spec = parse_defect_spec(
        [{"kind": "scratch"}, {"kind": "overlay"}, {"kind": "pit", "label": "hole"}, {"kind": "paste"}]
    )
    assert spec_labels(spec) == ("defect", "hole", "scratch")
    assert spec_labels(with_default_label(spec, ("flaw",))) == ("flaw", "hole")
    assert with_default_label(spec, ("a", "b")) == spec
