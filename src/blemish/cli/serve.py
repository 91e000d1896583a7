"""`blemish serve`: the inspection station."""

import logging
import signal
import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from blemish.cli.console import console, needs_extra, tell
from blemish.errors import OptionError

LIMITS, IMAGES, WAYS = "Limits", "Images", "Sources and sinks"


def serve(
    bundle: Annotated[Path | None, typer.Option(help="taken in, and used, if it is new to the station")] = None,
    db: Annotated[
        str | None, typer.Option(help="URL of a PostgreSQL database", show_default="SQLite in --data")
    ] = None,
    host: Annotated[str, typer.Option(help="address to listen on; beyond loopback, tokens are a must")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=1, max=65535)] = 8080,
    data: Annotated[Path, typer.Option(help="the station's own folder")] = Path("station"),
    station: Annotated[str, typer.Option(help="name in the record")] = "station",
    new_token: Annotated[
        str | None, typer.Option(help="NAME:ROLE; make a token, print it, and end", metavar="NAME:ROLE")
    ] = None,
    engine: Annotated[str, typer.Option(help="onnxruntime or openvino")] = "onnxruntime",
    threads: Annotated[int | None, typer.Option(min=1, help="of the engine")] = None,
    queue_depth: Annotated[int, typer.Option(min=1, help="parts that may wait", rich_help_panel=LIMITS)] = 64,
    batch_size: Annotated[int, typer.Option(min=1, help="parts a run of the network", rich_help_panel=LIMITS)] = 8,
    batch_wait_ms: Annotated[
        float, typer.Option(min=0, help="the longest wait for more parts of a batch", rich_help_panel=LIMITS)
    ] = 5.0,
    max_image_mib: Annotated[int, typer.Option(min=1, help="size of an image's file", rich_help_panel=LIMITS)] = 64,
    max_pixels: Annotated[int, typer.Option(min=1, help="of an image", rich_help_panel=LIMITS)] = 100_000_000,
    time_limit_s: Annotated[float, typer.Option(min=0.1, help="of an answer", rich_help_panel=LIMITS)] = 30.0,
    images: Annotated[
        list[Path] | None,
        typer.Option(help="requests may name files below it; repeatable", rich_help_panel=IMAGES),
    ] = None,
    keep: Annotated[str, typer.Option(help="all, rejects (and reviews), or none", rich_help_panel=IMAGES)] = "all",
    keep_days: Annotated[float | None, typer.Option(help="age that images reach", rich_help_panel=IMAGES)] = None,
    keep_gib: Annotated[float | None, typer.Option(help="size of all kept images", rich_help_panel=IMAGES)] = None,
    known: Annotated[
        list[Path] | None,
        typer.Option(help="dataset inspected at the start, its truth entered as reviews", rich_help_panel=WAYS),
    ] = None,
    watch: Annotated[
        list[Path] | None, typer.Option(help="folder whose new images are inspected; repeatable", rich_help_panel=WAYS)
    ] = None,
    camera: Annotated[
        list[str] | None, typer.Option(help="number, rtsp://..., or video file; repeatable", rich_help_panel=WAYS)
    ] = None,
    camera_interval_s: Annotated[float, typer.Option(min=0, help="between pictures", rich_help_panel=WAYS)] = 1.0,
    sink: Annotated[
        list[str] | None,
        typer.Option(help="csv:FILE, jsonl:FILE, http(s)://... or mqtt://HOST/TOPIC; repeatable", rich_help_panel=WAYS),
    ] = None,
    secure_cookies: Annotated[bool, typer.Option("--secure-cookies", help="the station is behind HTTPS")] = False,
) -> None:
    """Start the inspection station: record, machine interface and web pages."""
    with needs_extra("station"):
        from blemish.station.sinks import check_sink
        from blemish.station.sources import check_camera
    for text in sink or []:
        check_sink(text)
    for text in camera or []:
        check_camera(text)
    settings = _settings(
        data=data, db=db, station=station, host=host, port=port, engine=engine, threads=threads,
        queue_depth=queue_depth, batch_size=batch_size, batch_wait_ms=batch_wait_ms,
        max_image_bytes=max_image_mib * 2**20, max_pixels=max_pixels, time_limit_s=time_limit_s,
        image_folders=images or [], keep=keep, keep_days=keep_days, keep_gib=keep_gib, known=known or [],
        watch=watch or [],
        cameras=camera or [], camera_interval_s=camera_interval_s, sinks=sink or [], secure_cookies=secure_cookies,
    )  # fmt: skip
    if new_token is not None:
        _print_new_token(settings, new_token)
    else:
        _run(settings, bundle)


def _settings(**values: Any) -> Any:
    from pydantic import ValidationError

    from blemish.station.settings import Settings

    try:
        return Settings(**values)
    except ValidationError as error:
        first = error.errors()[0]
        raise OptionError(f"{'.'.join(map(str, first['loc']))}: {first['msg']}") from error


def _print_new_token(settings: Any, text: str) -> None:
    from blemish.station.auth import make_token
    from blemish.station.database import open_database

    name, _, role = text.partition(":")
    if not name or not role:
        raise OptionError("give --new-token NAME:ROLE, such as anna:engineer")
    with open_database(settings.url).writing() as session:
        token = make_token(session, name, role, "command line")
    tell("only its hash is kept; note it now")
    console.print(token, highlight=False, soft_wrap=True)


def _run(settings: Any, bundle: Path | None) -> None:
    import uvicorn

    from blemish.station.api import create_app
    from blemish.station.pages.site import add_pages
    from blemish.station.station import check_access, open_station, start_with

    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))  # uvicorn, when it is done, raises the signal once more
    logging.basicConfig(level=logging.WARNING, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    with open_station(settings) as station:
        check_access(settings, station.database)
        if bundle is not None:
            start_with(station, bundle)
        app = create_app(station)
        add_pages(app, station)
        tell(f"http://{settings.host}:{settings.port}, record in {settings.data}; Ctrl-C ends it")
        uvicorn.run(
            app,
            host=settings.host,
            port=settings.port,
            log_level="warning",
            access_log=False,
            server_header=False,
            timeout_graceful_shutdown=30,
        )
