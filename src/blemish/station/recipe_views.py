"""A recipe for several views of a part: a bundle with its decision for each, rules over all, one verdict."""

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, StringConstraints

from blemish.errors import DecisionError, ImageError
from blemish.imaging.read import read_image
from blemish.imaging.roi import Roi
from blemish.imaging.view_sheet import SheetLayout, read_layout, split_sheet
from blemish.inspection.inspector import Inspector
from blemish.inspection.manifest import Decision, Manifest, Scale
from blemish.inspection.pipeline import FailedInspection
from blemish.inspection.result import Inspection
from blemish.inspection.views import fuse_views

ONE_VIEW = ""  # the name of the view of a recipe of one image
ViewName = Annotated[str, StringConstraints(pattern=r"^[\w-]{1,40}$")]
Sha256Text = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}$")]


class ViewRecipe(BaseModel):
    """One view; values that are not given come from its bundle."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    bundle: Sha256Text
    decision: Decision | None = None
    roi: Roi | None = None
    scale: Scale | None = None


class RecipeViews(BaseModel):
    """The views of a recipe. Bundle, decision, region and scale of the recipe itself are those of the view `first`."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    first: ViewName
    others: Annotated[dict[ViewName, ViewRecipe], Field(min_length=1, max_length=15)]
    rules: list[str] = Field(default=[], description="over the regions of all views, in the language of rules")

    @property
    def names(self) -> list[str]:
        return [self.first, *self.others]

    def check(self) -> None:
        """Raises DecisionError for a name that is used twice."""
        if self.first in self.others:
            raise DecisionError(f"the view '{self.first}' is given twice; name each view once")


class ViewsInspector:
    """Inspects sheets of views, as `Inspector` inspects images: the same calls, for recipes of several views."""

    def __init__(self, inspectors: dict[str, Inspector], rules: Sequence[str], max_pixels: int) -> None:
        self._inspectors, self._rules, self._max_pixels = inspectors, list(rules), max_pixels

    @property
    def manifest(self) -> Manifest:
        """Of the first view."""
        return next(iter(self._inspectors.values())).manifest

    @property
    def views(self) -> int:
        return len(self._inspectors)

    def inspect(self, image: Path) -> Inspection:
        """With a heat map where all views have one; raises ImageError for a file that is no sheet of these views."""
        return self._fuse(image, heat=True)

    def inspect_batch(self, images: Sequence[Path]) -> list[Inspection | FailedInspection]:
        results: list[Inspection | FailedInspection] = []
        for image in images:
            try:
                results.append(self._fuse(image, heat=False))
            except ImageError as error:
                results.append(FailedInspection(str(image), error))
        return results

    def _fuse(self, path: Path, heat: bool) -> Inspection:
        sheet = read_image(path, self._max_pixels)
        layout = self._layout(path)
        images = split_sheet(sheet, layout)
        done: dict[str, Inspection | None] = dict.fromkeys(self._inspectors)
        for name, image in images.items():
            done[name] = self._inspectors[name].inspect(image)
        offsets = {place.name: (place.x, 0) for place in layout.places}
        fused = fuse_views(done, self._rules, offsets, (sheet.shape[0], sheet.shape[1]))
        if heat and all(view is not None and view.heat_map is not None for view in done.values()):
            whole = np.zeros(sheet.shape[:2], np.float32)
            for place in layout.places:
                view = done[place.name]
                assert view is not None
                whole[: place.height, place.x : place.x + place.width] = view.heat_map
            fused.heat_map = whole
        return fused

    def _layout(self, path: Path) -> SheetLayout:
        layout = read_layout(path)
        wanted = ", ".join(self._inspectors)
        if layout is None:
            raise ImageError(f"{path} is one image, and the recipe takes the views {wanted}")
        names = [place.name for place in layout.places]
        strange = [name for name in names if name not in self._inspectors]
        if strange or len(set(names)) != len(names):
            raise ImageError(f"{path} has the views {', '.join(names)}, and the recipe takes {wanted}")
        return layout


PartInspector = Inspector | ViewsInspector


def parse_views(data: dict[str, Any] | None) -> RecipeViews | None:
    """The views of a stored recipe."""
    return None if data is None else RecipeViews.model_validate(data)


def required_views(data: dict[str, Any] | None) -> list[str]:
    """Names of the views of a stored recipe; one without a name for a recipe of one image."""
    views = parse_views(data)
    return [ONE_VIEW] if views is None else views.names
