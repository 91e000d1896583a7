"""The page for an address that does not exist, in the reader's language."""

import html

from fastapi import Request
from fastapi.responses import HTMLResponse, JSONResponse
from starlette.responses import Response

from blemish.station.pages.layout import STYLE
from blemish.station.pages.session import open_session
from blemish.station.station import Station


def not_found(station: Station, request: Request) -> Response:
    if request.url.path.startswith("/v1/"):
        return JSONResponse({"detail": "Not Found"}, 404)
    page = open_session(station, request)
    title, text, back = map(
        html.escape, (page.t("No such page"), page.t("This address does not exist."), page.t("Live"))
    )
    dark = "body--dark" if page.dark else ""
    head = f'<meta charset="utf-8"><meta name="viewport" content="width=device-width"><title>{title} · blemish</title>'
    body = f'<h1 class="empty-title">{title}</h1><p>{text}</p><p><a href="/">{back}</a></p>'
    return HTMLResponse(
        f'<!doctype html><html lang="{page.language}"><head>{head}<style>{STYLE}</style></head>'
        f'<body class="{dark}"><main class="empty">{body}</main></body></html>',
        404,
    )
