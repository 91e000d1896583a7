"""The element that shows scores by true label, with thresholds that can be dragged."""

from collections.abc import Awaitable, Callable, Sequence

from nicegui.element import Element
from nicegui.events import GenericEventArguments

from blemish.inspection.manifest import Decision


class ScoreHistogram(Element, component="score_histogram.js"):
    """`on_move` is called with the review and the reject threshold while they are dragged."""

    def __init__(
        self,
        edges: Sequence[float],
        counts: dict[str, list[int]],
        decision: Decision,
        labels: dict[str, str],
        editable: bool,
        on_move: Callable[[float | None, float | None], Awaitable[None]],
    ) -> None:
        super().__init__()
        self._props.update({"edges": list(edges), "counts": counts, "labels": labels, "editable": editable})
        self.show(decision)

        async def moved(event: GenericEventArguments) -> None:
            await on_move(_number(event.args.get("review")), _number(event.args.get("reject")))

        self.on("moved", moved)

    def show(self, decision: Decision) -> None:
        self._props.update({"review": decision.review, "reject": decision.reject})
        self.update()


def _number(value: object) -> float | None:
    return float(value) if isinstance(value, int | float) else None
