"""The reference of the REST API, made from the application's own description; it needs no internet."""

from typing import Any

from fastapi import FastAPI, Request
from nicegui import ui

from blemish.station.pages.session import PageSession
from blemish.station.pages.widgets import div, hint, panel, table


async def build(app: FastAPI, page: PageSession, request: Request) -> None:
    t, description = page.t, app.openapi()
    with div("bar"):
        hint(f"{description['info']['title']} {description['info']['version']}")
        ui.link("openapi.json", "/openapi.json")
    models = description.get("components", {}).get("schemas", {})
    for path, operations in description["paths"].items():
        for method, operation in operations.items():
            with panel(extra="operation"):
                with div("bar"):
                    ui.label(method.upper()).classes("method")
                    ui.label(path).classes("mono").style("font-weight: 600")
                if operation.get("description"):
                    ui.label(operation["description"])
                fields = [*_parameters(operation), *_body(operation, models)]
                if fields:
                    table(fields, [t(name) for name in ("name", "where", "type", "description")], numbers=False)
                answers = ((code, answer["description"], _type(_schema(answer)))
                           for code, answer in operation["responses"].items())  # fmt: skip
                with ui.expansion(t("Answers")).props("dense").style("width: 100%"):
                    table(answers, numbers=False)
    for name, model in models.items():
        with panel(extra="operation"), ui.expansion(name).props("dense").style("width: 100%"):
            if model.get("description"):
                ui.label(model["description"])
            table(_properties(model, ""), numbers=False)


def _parameters(operation: dict[str, Any]) -> list[tuple[str, str, str, str]]:
    return [
        (p["name"] + ("" if p.get("required") else "?"), p["in"], _type(p.get("schema", {})), _words(p))
        for p in operation.get("parameters", [])
    ]


def _body(operation: dict[str, Any], models: dict[str, Any]) -> list[tuple[str, str, str, str]]:
    schema = _schema(operation.get("requestBody", {}))
    name = schema.get("$ref", "").rpartition("/")[2]
    return _properties(models.get(name, schema), "body")


def _properties(model: dict[str, Any], where: str) -> list[tuple[str, str, str, str]]:
    required = model.get("required", [])
    return [
        (name + ("" if name in required else "?"), where, _type(value), _words(value))
        for name, value in model.get("properties", {}).items()
    ]


def _schema(content: dict[str, Any]) -> dict[str, Any]:
    """The schema of the first media type."""
    media: list[dict[str, Any]] = [*content.get("content", {}).values(), {}]
    return dict(media[0].get("schema", {}))


def _type(schema: dict[str, Any]) -> str:
    if "$ref" in schema:
        return str(schema["$ref"].rpartition("/")[2])
    if "anyOf" in schema:
        return " | ".join(map(_type, schema["anyOf"]))
    if "enum" in schema:
        return " | ".join(map(str, schema["enum"]))
    if schema.get("type") == "array":
        return f"[{_type(schema.get('items', {}))}]"
    return str(schema.get("format") or schema.get("type") or "")


def _words(value: dict[str, Any]) -> str:
    return str(value.get("description") or value.get("schema", {}).get("description") or "")
