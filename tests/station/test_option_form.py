"""The form of a method's options: what it passes on is what the method's own types accept."""

import json
from typing import Any

import pytest

from blemish.cli.methods import describe_options
from blemish.errors import DataError
from blemish.methods.catalogue import METHODS, method_class
from blemish.station.pages.option_form import list_changes, parse_value
from blemish.training.learn.options import parse_settings


@pytest.mark.parametrize("name", METHODS)
def test_the_defaults_of_every_method_change_nothing_and_json_texts_are_read_back(name: str) -> None:
    options = describe_options(method_class(name))
    defaults = {key: schema.get("default") for key, schema in options.items()}
    assert list_changes(options, defaults) == []
    as_text = {key: json.dumps(value) if isinstance(value, list | dict) else value for key, value in defaults.items()}
    assert list_changes(options, as_text) == []


def test_what_is_changed_is_accepted_by_the_method_and_ineffective_options_are_left_out() -> None:
    method = method_class("classifier")
    options = describe_options(method)
    values: dict[str, Any] = {key: schema.get("default") for key, schema in options.items()}
    ignored = next(key for key, schema in options.items() if schema.get("ignored_when", {}).get("embedding_loss"))
    number = next(key for key, schema in options.items() if schema.get("type") == "integer" and key == "image_size")
    values |= {number: 96, ignored: 0.25}
    assert list_changes(options, values) == [f"{number}=96"]
    values["embedding_loss"] = "triplet"
    changes = list_changes(options, values)
    assert set(changes) == {f"{number}=96", f"{ignored}=0.25", 'embedding_loss="triplet"'}
    made = method.Options(**parse_settings(changes))
    assert (getattr(made, number), made.model_dump()["embedding_loss"]) == (96, "triplet")


def test_a_text_that_is_no_value_is_refused() -> None:
    assert parse_value("levels", "[8, 16]") == [8, 16]
    assert parse_value("crop", " ") is None
    with pytest.raises(DataError, match="option levels: '8, 16' cannot be read"):
        parse_value("levels", "8, 16")
