"""A method's options as a form, made from their types; only what differs from the default is passed on."""

import json
from collections.abc import Mapping
from typing import Any

from nicegui import ui

from blemish.errors import DataError
from blemish.station.pages.session import PageSession
from blemish.station.pages.widgets import div, hint

Schema = Mapping[str, Any]  # of one option, as JSON schema with its default


class OptionForm:
    def __init__(self, page: PageSession, options: Mapping[str, Schema], given: Mapping[str, Any]) -> None:
        """`given` are values that differ from the defaults, such as the advisor's."""
        self.page = page
        self.options = options
        self.values: dict[str, Any] = {name: given.get(name, schema.get("default")) for name, schema in options.items()}
        self.rows: dict[str, ui.element] = {}

    def build(self) -> None:
        with div("stack").props("data-name=option-form").style("max-height: 46vh; overflow: auto; gap: 6px"):
            for name, schema in self.options.items():
                with div("option") as row:
                    self._field(name, schema)
                    meaning = schema.get("description", "")
                    hint(self.page.t(meaning))
                self.rows[name] = row
        self._hide_ignored()

    def changed(self) -> list[str]:
        """NAME=VALUE of each option that differs from its default; raises DataError for a text that is no value."""
        return list_changes(self.options, self.values)

    def _field(self, name: str, schema: Schema) -> None:
        value, kind = self.values[name], _kind(schema)
        element: Any
        if kind == "boolean":
            element = ui.switch(name, value=bool(value))
        elif kind == "choice":
            element = ui.select(list(schema["enum"]), value=value, label=name)
        elif kind == "number":
            bounds = _bounds(schema)
            element = ui.number(name, value=value, min=bounds[0], max=bounds[1])
            element.props(f"placeholder={self.page.t('none')!r}")
        else:
            element = ui.input(name, value=value if is_text(schema) else json.dumps(value))
        element.props(f"dense outlined options-dense data-name=option-{name}").style("width: 260px")
        element.on_value_change(lambda event: self._set(name, event.value))

    def _set(self, name: str, value: Any) -> None:
        schema = self.options[name]
        whole = "integer" in _types(schema) and isinstance(value, float) and value == int(value)
        self.values[name] = int(value) if whole else value
        self._hide_ignored()

    def _hide_ignored(self) -> None:
        """Options that others make ineffective are not shown."""
        for name, row in self.rows.items():
            row.set_visibility(not is_ignored(self.options[name], self.values))


def list_changes(options: Mapping[str, Schema], values: Mapping[str, Any]) -> list[str]:
    """NAME=VALUE, as `blemish train --set` takes it, of each option that has an effect and differs from its default."""
    found = []
    for name, schema in options.items():
        value = values[name]
        if isinstance(value, str) and _kind(schema) == "text" and not is_text(schema):
            value = parse_value(name, value)
        if value != schema.get("default") and not is_ignored(schema, values):
            found.append(f"{name}={json.dumps(value, ensure_ascii=False)}")
    return found


def is_ignored(schema: Schema, values: Mapping[str, Any]) -> bool:
    """Whether other options make this one ineffective."""
    return any(values.get(other) in ignoring for other, ignoring in schema.get("ignored_when", {}).items())


def parse_value(name: str, text: str) -> Any:
    """A list, a mapping or whatever else has no field of its own, as JSON; raises DataError for anything else."""
    try:
        return json.loads(text) if text.strip() else None
    except ValueError as error:
        raise DataError(f"option {name}: '{text[:50]}' cannot be read; write JSON such as [8, 16] or null") from error


def is_text(schema: Schema) -> bool:
    return schema.get("type") == "string"


def _kind(schema: Schema) -> str:
    if schema.get("type") == "boolean":
        return "boolean"
    if "enum" in schema:
        return "choice"
    types = _types(schema)
    return "number" if types and types <= {"number", "integer", "null"} else "text"


def _types(schema: Schema) -> set[str]:
    return {part.get("type", "") for part in schema.get("anyOf", [schema])}


def _bounds(schema: Schema) -> tuple[float | None, float | None]:
    """The inclusive bounds of a number; exclusive ones are checked by the training."""
    part = next((one for one in schema.get("anyOf", [schema]) if one.get("type") != "null"), schema)
    return part.get("minimum"), part.get("maximum")
