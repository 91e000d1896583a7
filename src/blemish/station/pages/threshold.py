from fastapi import Request

from blemish.station.pages.frame import empty
from blemish.station.pages.visitor import Visitor


async def build(visitor: Visitor, request: Request) -> None:
    empty("build", "soon")
