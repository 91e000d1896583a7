"""The differences between two recipes, value by value."""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from blemish.station.models import RecipeRow
from blemish.station.recipes import recipe_scale, recipe_title, scale_text
from blemish.translation import Message

NAMES = {  # of a decision's values, as pages call them
    "review": "review threshold",
    "reject": "reject threshold",
    "map_low": "heat map: regions down to",
    "map_high": "heat map: regions from",
    "edge": "border of regions",
    "min_area_px": "min. area, px²",
}


@dataclass(frozen=True, slots=True)
class RecipeDifference:
    """One value of two recipes, as text; "" where a recipe does not have it."""

    name: Message
    first: str
    second: str

    @property
    def same(self) -> bool:
        return self.first == self.second


def compare_recipes(first: RecipeRow, second: RecipeRow) -> list[RecipeDifference]:
    """All values of two recipes, those that differ first; rules, zones and class thresholds one by one."""
    values = [{str(name): (name, value) for name, value in _values(recipe)} for recipe in (first, second)]
    found = []
    for key in dict.fromkeys([*values[0], *values[1]]):
        name, _ = values[0].get(key) or values[1][key]
        a, b = (own[key][1] if key in own else "" for own in values)
        found.append(RecipeDifference(name, a, b))
    return sorted(found, key=lambda difference: difference.same)


def _values(recipe: RecipeRow) -> Iterator[tuple[Message, str]]:
    manifest = recipe.bundle.manifest
    yield Message("recipe"), recipe_title(recipe)
    yield Message("reason"), recipe.note
    yield Message("created"), f"{recipe.created_at.astimezone():%Y-%m-%d %H:%M} {recipe.created_by}"
    yield Message("bundle"), f"{recipe.bundle.name} {recipe.bundle.sha256[:12]}"
    yield Message("method"), str(manifest["provenance"]["method"])
    for name, value in recipe.decision.items():
        if name == "class_thresholds":
            yield from ((Message("threshold of {name}", {"name": own}), _text(value[own])) for own in value)
        elif name == "zones":
            yield from ((Message("zone {name}", {"name": own}), _text(value[own])) for own in value)
        elif name == "rules":
            yield from ((Message("rule: {text}", {"text": own}), "✓") for own in value)
        else:
            yield Message(NAMES.get(name, name)), _text(value)
    roi = manifest.get("roi") if recipe.roi is None else recipe.roi
    given = None if roi is None else {key: part for key, part in roi.items() if part not in (None, [])}
    yield Message("inspected area"), _text(given)
    scale = recipe_scale(recipe)
    yield Message("scale"), "–" if scale is None else scale_text(scale)
    views = recipe.views or {}
    if views:
        yield Message("first view"), views["first"]
    for view, own in views.get("others", {}).items():
        for name, value in own.items():
            if value is not None:
                yield Message("{name} of view {view}", {"name": name, "view": view}), _text(value)
    yield from ((Message("rule over views: {text}", {"text": own}), "✓") for own in views.get("rules", ()))
    for view, own in (recipe.cameras or {}).items():
        for name, value in own.items():
            if value is not None:
                yield Message("camera {view}: {name}", {"name": name, "view": view or "–"}), _text(value)


def _text(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:.6g}"
    return "–" if value is None else value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
