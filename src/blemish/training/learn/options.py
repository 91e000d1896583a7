"""Options given as text, checked against a method's typed options; errors name the near ones."""

import difflib
from collections.abc import Iterable, Mapping
from typing import Any, TypeVar

import yaml
from pydantic import BaseModel, ValidationError

from blemish.errors import OptionError


def parse_settings(settings: Iterable[str]) -> dict[str, Any]:
    """`key=value` texts to a dict; values are read as YAML, so 3, 0.1, true, [8, 16] mean what they look like."""
    parsed = {}
    for setting in settings:
        key, equals, value = setting.partition("=")
        if not equals or not key.strip():
            raise OptionError(f"'{setting}' is not of the form key=value")
        try:
            parsed[key.strip()] = yaml.safe_load(value) if value.strip() else ""
        except yaml.YAMLError as error:
            raise OptionError(f"the value of '{setting}' cannot be read") from error
    return parsed


def ineffective_options(options: BaseModel, given: Iterable[str]) -> list[str]:
    """A line for each option given, and not as it is anyway, that has no effect beside the others."""
    found = []
    for name in given:
        own = type(options).model_fields[name]
        extra: Any = own.json_schema_extra or {}
        if getattr(options, name) == own.default:
            continue
        for other, values in extra.get("ignored_when", {}).items():
            if getattr(options, other) in values:
                found.append(f"option {name} has no effect where {other} is {getattr(options, other)}")
    return found


T = TypeVar("T", bound=BaseModel)


def check_options(kind: type[T], values: Mapping[str, Any], owner: str) -> T:
    """Validated options; raises OptionError with one line for the first thing that is wrong."""
    for name in values:
        if name not in kind.model_fields:
            near = difflib.get_close_matches(name, kind.model_fields, n=3, cutoff=0.5) or sorted(kind.model_fields)
            raise OptionError(f"{owner} has no option '{name}'; did you mean {', '.join(near)}?")
    try:
        return kind.model_validate(dict(values))
    except ValidationError as error:
        first = error.errors()[0]
        name = ".".join(str(part) for part in first["loc"]) or "options"
        message = first["msg"][0].lower() + first["msg"][1:]
        raise OptionError(f"option {name}={first.get('input')!r} of {owner}: {message}") from error
