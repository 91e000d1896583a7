"""Recipes: what is read, and what one clear line says of what is wrong."""

import pytest

from blemish.errors import OptionError
from blemish.synthesis.recipe import KINDS, labels_of, parse_recipe, read_recipe, with_default_label


def test_a_list_of_steps_is_a_recipe(tmp_path):
    path = tmp_path / "r.yaml"
    path.write_text("- {kind: scratch, p: 0.5, length: [0.1, 0.2]}\n- {kind: light}\n")
    recipe = read_recipe(path)
    assert [step.kind for step in recipe.steps] == ["scratch", "light"]
    assert recipe.changes
    assert not recipe.pastes


def test_every_kind_has_defaults_and_survives_its_own_yaml():
    recipe = parse_recipe([{"kind": kind} for kind in KINDS])
    assert len(KINDS) == 16
    assert parse_recipe(recipe.model_dump(mode="json")) == recipe


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
def test_what_is_wrong_is_one_line(content, words):
    with pytest.raises(OptionError, match=words) as caught:
        parse_recipe(content)
    assert "\n" not in str(caught.value)


def test_one_number_is_a_range_of_itself():
    recipe = parse_recipe({"steps": [{"kind": "pit", "length": 0.2, "count": 3}], "pick": 1})
    assert recipe == parse_recipe({"steps": [{"kind": "pit", "length": [0.2, 0.2], "count": [3, 3]}], "pick": [1, 1]})


def test_a_missing_file_is_one_line(tmp_path):
    with pytest.raises(OptionError, match="cannot be read"):
        read_recipe(tmp_path / "no.yaml")


def test_classes_of_steps():
    recipe = parse_recipe(
        [{"kind": "scratch"}, {"kind": "overlay"}, {"kind": "pit", "label": "hole"}, {"kind": "paste"}]
    )
    assert labels_of(recipe) == ("defect", "hole", "scratch")
    assert labels_of(with_default_label(recipe, ("flaw",))) == ("flaw", "hole")
    assert with_default_label(recipe, ("a", "b")) == recipe
