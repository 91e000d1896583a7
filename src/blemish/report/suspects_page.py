"""The page of suspects: images whose label disagrees with the others, with thumbnails, the most suspicious first."""

from collections.abc import Sequence
from typing import Any

from blemish.dataset.sample import Sample
from blemish.errors import ImageError
from blemish.imaging.read import read_image
from blemish.report.gallery import data_uri
from blemish.report.html import render_template
from blemish.report.overlay import as_picture
from blemish.translation import ENGLISH

MAX_PICTURES = 100  # of the list; more make the page heavy
SIDE = 160  # of a thumbnail, in px


def render_suspects(
    name: str, images: int, rows: Sequence[tuple[Sample, dict[str, Any]]], language: str = ENGLISH
) -> str:
    """`rows` are the first of the list of `images`, each with `image`, `label`, `looks_like` and `suspicion`."""
    shown = []
    for sample, row in rows[:MAX_PICTURES]:
        try:
            picture = data_uri(as_picture(read_image(sample.image)), SIDE)
        except ImageError:  # it has vanished since
            picture = ""
        shown.append({**row, "picture": picture})
    return render_template("suspects.html", language, title=name, images=images, rows=shown)
