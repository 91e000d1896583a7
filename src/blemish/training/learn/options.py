"""Options given as text, validated against a method's typed options."""

from collections.abc import Iterable, Mapping
from typing import Any

import yaml
from pydantic import ValidationError

from blemish.errors import OptionError, unknown
from blemish.files import Model, first_problem


def parse_settings(settings: Iterable[str]) -> dict[str, Any]:
    """`key=value` texts as a dict; values are read as YAML, so 3, 0.1, true and [8, 16] get their types."""
    parsed: dict[str, Any] = {}
    for setting in settings:
        name, equals, value = setting.partition("=")
        key = name.strip()
        if not equals or not key:
            raise OptionError(f"'{setting}' is not of the form key=value")
        if key in parsed:
            raise OptionError(f"option {key} is given twice; keep one of them")
        try:
            parsed[key] = yaml.safe_load(value) if value.strip() else ""
        except yaml.YAMLError as error:
            raise OptionError(f"the value of '{setting}' cannot be read") from error
    return parsed


def ineffective_options(options: Model, given: Iterable[str]) -> list[str]:
    """One warning per non-default option that other options make ineffective."""
    warnings = []
    for name in given:
        field = type(options).model_fields[name]
        extra: Any = field.json_schema_extra or {}
        if getattr(options, name) == field.default:
            continue
        for other, values in extra.get("ignored_when", {}).items():
            if getattr(options, other) in values:
                warnings.append(f"option {name} has no effect where {other} is {getattr(options, other)}")
    return warnings


def unused_score_options(options: Model) -> list[str]:
    """One warning per non-default option that only chooses an image score other than the map's."""
    warnings = []
    for name, field in type(options).model_fields.items():
        extra: Any = field.json_schema_extra or {}
        value, values = getattr(options, name), extra.get("graph_score_only")
        if values is not None and value != field.default and (not values or value in values):
            warnings.append(
                f"{name}={value} has no effect: with letterbox, ROI or masks the image score is that of the map"
            )
    return warnings


def check_options(kind: type[Model], values: Mapping[str, Any], owner: str) -> Model:
    """Validated options; OptionError with one line for the first problem. `owner` names the method in messages."""
    for name in values:
        if name not in kind.model_fields:
            raise OptionError(unknown(f"option of {owner}", name, kind.model_fields))
    try:
        return kind.model_validate(dict(values))
    except ValidationError as error:
        name, _, message = first_problem(error).rpartition(": ")
        value = error.errors()[0].get("input")
        raise OptionError(f"option {name or 'combination'}={value!r} of {owner}: {message}") from error
