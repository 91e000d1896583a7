"""The preset `paper`: options that exist and hold, or a reason; the page of the docs says the same."""

import re
from pathlib import Path

import pytest
import yaml

from blemish.errors import OptionError
from blemish.methods.catalogue import METHODS, method_class
from blemish.training.learn.options import check_options
from blemish.training.learn.paper_options import PAPERS, Epochs
from blemish.training.learn.presets import preset_options

PAGE = Path(__file__).parents[3] / "docs" / "papers.md"


def test_every_method_has_values_of_its_paper_or_a_reason():
    assert set(PAPERS) == set(METHODS)
    for name, own in PAPERS.items():
        assert own.values or own.missing, name
        assert all(value.source for value in own.values), name
        assert len({value.option for value in own.values}) == len(own.values), name


@pytest.mark.parametrize("name", [name for name, own in PAPERS.items() if own.values])
def test_the_values_are_options_and_hold_together(name):
    options = check_options(method_class(name).Options, preset_options(name, "paper", 209), name)
    for value in PAPERS[name].values:
        if not isinstance(value.value, Epochs):
            assert getattr(options, value.option) == value.value, value


STATED = re.compile(r"[Tt]he paper(?:'s|\s+has)[^`.()]*\(?`([^`]+)`|`(\w+=[^`]+)`: the paper's")


def test_what_a_docstring_calls_the_papers_is_in_the_preset():
    checked = 0
    for name, own in PAPERS.items():
        if not own.values:
            continue
        values = {value.option: value.value for value in own.values}
        for match in STATED.finditer(" ".join((method_class(name).__doc__ or "").split())):
            for option, _, text in (word.partition("=") for word in (match[1] or match[2]).split()):
                if option in method_class(name).Options.model_fields and option not in ("backbone", "images"):
                    given = method_class(name).Options.model_validate({option: yaml.safe_load(text)})
                    assert values[option] == getattr(given, option), (name, option)
                    checked += 1
    assert checked > 8


def test_a_map_that_the_paper_does_not_smooth_is_not_smoothed():
    for name in ("stfpm", "patch-svdd", "autoencoder", "f-anogan"):
        assert preset_options(name, "paper", 209)["blur"] == 0, name
    assert preset_options("spade", "paper", 391)["gallery"] >= 391


def test_epochs_count_the_good_images():
    assert preset_options("reverse-distillation", "paper", 209)["steps"] == 200 * 14  # 209 images by 16
    assert preset_options("reverse-distillation", "paper", 16)["steps"] == 200
    assert preset_options("padim", "default", 209) == {}
    with pytest.raises(OptionError, match="vae has no preset 'paper': the paper trains on slices"):
        preset_options("vae", "paper", 209)


def test_the_page_has_the_table():
    rows = [line.strip("| ").split(" | ") for line in PAGE.read_text().splitlines() if line.startswith("| [")]
    found = {}
    for method, option, value, source in (row for row in rows if len(row) == 4):
        found.setdefault(re.match(r"\[(.+?)\]", method)[1], []).append((option.strip("`"), value.strip("`"), source))
    for name, own in PAPERS.items():
        expected = [
            (v.option, f"{v.value.count} epochs" if isinstance(v.value, Epochs) else written(v.value), v.source)
            for v in own.values
        ]
        assert found.get(name, []) == expected, name


def written(value):
    if isinstance(value, bool):
        return str(value).lower()
    return "[" + ", ".join(map(str, value)) + "]" if isinstance(value, tuple) else str(value)
