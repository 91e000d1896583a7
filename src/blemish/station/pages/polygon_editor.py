"""A picture with polygons that can be edited."""

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from nicegui.element import Element
from nicegui.events import GenericEventArguments

from blemish.errors import DataError

AreaKind = Literal["zone", "inspected", "ignored"]
AREA_COLOURS: dict[AreaKind, str] = {"zone": "#0072B2", "inspected": "#009E73", "ignored": "#D55E00"}
MAX_POINTS = 500
PolygonPoints = list[tuple[float, float]]


@dataclass
class EditedArea:
    """A polygon in pixels of the image, given at pixel edges."""

    id: str
    kind: AreaKind
    name: str
    points: PolygonPoints

    @property
    def shown(self) -> dict[str, Any]:
        points = [list(point) for point in self.points]
        return {"id": self.id, "name": self.name, "colour": AREA_COLOURS[self.kind], "points": points}


class PolygonEditor(Element, component="polygon_editor.js"):
    """`on_move` gets the id and points of a polygon that was changed, `on_choose` the id of one that was clicked."""

    def __init__(
        self,
        source: str,
        size: tuple[int, int],
        editable: bool,
        on_move: Callable[[str, PolygonPoints], Awaitable[None]],
        on_choose: Callable[[str], Awaitable[None]],
    ) -> None:
        super().__init__()
        height, width = size
        self._props.update({"source": source, "width": width, "height": height, "editable": editable})
        self.show([], "")

        async def moved(event: GenericEventArguments) -> None:
            await on_move(str(event.args["id"]), read_points(event.args["points"], width, height))

        async def chosen(event: GenericEventArguments) -> None:
            await on_choose(str(event.args))

        self.on("moved", moved).on("choose", chosen)

    def show(self, areas: Sequence[EditedArea], chosen: str) -> None:
        self._props.update({"shapes": [area.shown for area in areas], "chosen": chosen})
        self.update()


def read_points(values: Any, width: int, height: int) -> PolygonPoints:
    """The points that a page sent, inside the image; raises DataError for what is no polygon."""
    try:
        points = [(min(width, max(0.0, float(x))), min(height, max(0.0, float(y)))) for x, y in values]
    except (TypeError, ValueError) as error:
        raise DataError("the polygon did not arrive") from error
    if not 3 <= len(points) <= MAX_POINTS or not all(abs(value) < 1e9 for point in points for value in point):
        raise DataError(f"a polygon has 3 to {MAX_POINTS} points")
    return points
