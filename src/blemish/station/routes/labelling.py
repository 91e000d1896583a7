"""Pictures of the images of labelling projects."""

from typing import Annotated

import cv2
import numpy as np
from fastapi import APIRouter, Path, Query, Response

from blemish.imaging.read import encode, read_image
from blemish.report.overlay import as_picture
from blemish.station.pictures import RenderedPicture
from blemish.station.routes.access import Operator, StationDep, error_responses, or_404

router = APIRouter(tags=["labelling"])
ProjectName = Annotated[str, Path(pattern=r"^[\w.-]{1,100}$")]


@router.get("/labelling/{project}/picture", response_class=Response, responses=error_responses(404, 503))
async def read_picture(
    station: StationDep,
    user: Operator,
    project: ProjectName,
    image: Annotated[str, Query(max_length=4096, description="name of the image in the project")],
    side: Annotated[int, Query(ge=16, le=8192, description="maximum of the longer side, in px")] = 1024,
) -> Response:
    """An image of a project as a PNG."""
    known = station.labelling.open(project) if project in station.labelling.names() else None
    sample = or_404(None if known is None else known.samples.get(image), "no such image in a labelling project")

    def render() -> RenderedPicture:
        picture = as_picture(read_image(sample.image, station.settings.max_pixels))
        scale = min(1.0, side / max(picture.shape[:2]))
        if scale < 1:
            size = max(1, round(picture.shape[1] * scale)), max(1, round(picture.shape[0] * scale))
            picture = np.asarray(cv2.resize(picture, size, interpolation=cv2.INTER_AREA), np.uint8)
        return RenderedPicture(encode(picture, ".png"))

    found = await station.pictures.get(f"labelling/{project}/{image}/{side}", render)
    return Response(found.content, media_type="image/png", headers={"Cache-Control": "private, max-age=60"})
