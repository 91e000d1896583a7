"""`blemish serve`: the inspection station."""

import logging
import re
import signal
import sys
from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from blemish.cli.console import console, hide_log, messages, needs_extra
from blemish.cli.options import EngineOption, ThreadsOption, choice_option
from blemish.errors import OptionError
from blemish.files import validate

log = logging.getLogger(__name__)
LIMITS, IMAGES, INPUT_OUTPUT, DISPLAYS = "Limits", "Images", "Sources and sinks", "Displays and alarms"
KeepName = Literal["all", "rejects", "none"]


def serve(
    bundle: Annotated[
        Path | None, typer.Option(help="bundle to import and activate, if it is new to the station")
    ] = None,
    db: Annotated[
        str | None, typer.Option(help="URL of a PostgreSQL database", show_default="SQLite in --data")
    ] = None,
    host: Annotated[
        str, typer.Option(help="network address to listen on; other than loopback only with tokens")
    ] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=1, max=65535, help="TCP port")] = 8080,
    data: Annotated[Path, typer.Option(help="folder of the station")] = Path("station"),
    station: Annotated[str, typer.Option(help="name of the station in the record")] = "station",
    new_token: Annotated[
        str | None,
        typer.Option(
            help="new token to create and print, for a person and a role; nothing is served", metavar="NAME:ROLE"
        ),
    ] = None,
    new_user: Annotated[
        str | None,
        typer.Option(
            help="new user, whose password is asked for; a person and a role; nothing is served", metavar="NAME:ROLE"
        ),
    ] = None,
    bundle_key: Annotated[
        Path | None, typer.Option(help="public key; only bundles that `blemish sign` signed are imported")
    ] = None,
    no_tokens: Annotated[
        bool,
        typer.Option("--no-tokens", help="whoever reaches the station is an administrator, until a token is made"),
    ] = False,
    engine: EngineOption = "onnxruntime",
    threads: ThreadsOption = None,
    queue_depth: Annotated[
        int, typer.Option(min=1, help="largest number of parts that wait", rich_help_panel=LIMITS)
    ] = 64,
    batch_size: Annotated[
        int, typer.Option(min=1, help="largest number of parts in one run of the network", rich_help_panel=LIMITS)
    ] = 8,
    batch_wait_ms: Annotated[
        float, typer.Option(min=0, help="longest wait for more parts of a batch, in ms", rich_help_panel=LIMITS)
    ] = 5.0,
    max_image_mib: Annotated[
        int, typer.Option(min=1, help="largest size of an image file, in MiB", rich_help_panel=LIMITS)
    ] = 64,
    max_pixels: Annotated[
        int, typer.Option(min=1, help="largest number of pixels of an image", rich_help_panel=LIMITS)
    ] = 64_000_000,
    time_limit_s: Annotated[
        float, typer.Option(min=0.1, help="longest time until an answer, in seconds", rich_help_panel=LIMITS)
    ] = 30.0,
    images: Annotated[
        list[Path] | None,
        typer.Option(help="folder whose files requests may name; repeatable", rich_help_panel=IMAGES),
    ] = None,
    keep: Annotated[
        KeepName,
        choice_option(KeepName, "images that are kept (rejects: rejected and reviewed ones)", rich_help_panel=IMAGES),
    ] = "all",
    keep_days: Annotated[
        float | None, typer.Option(help="largest age of kept images, in days", rich_help_panel=IMAGES)
    ] = None,
    keep_gib: Annotated[
        float | None, typer.Option(help="largest size of all kept images, in GiB", rich_help_panel=IMAGES)
    ] = None,
    done_days: Annotated[
        float | None,
        typer.Option(help="delete files in the folder done of a watched one after days", rich_help_panel=IMAGES),
    ] = None,
    outbox_days: Annotated[
        float, typer.Option(min=0.01, help="days for which delivered results are listed", rich_help_panel=INPUT_OUTPUT)
    ] = 30.0,
    known: Annotated[
        list[Path] | None,
        typer.Option(
            help="dataset to inspect at the start, with its annotations as reviews; repeatable",
            rich_help_panel=INPUT_OUTPUT,
        ),
    ] = None,
    watch: Annotated[
        list[Path] | None,
        typer.Option(help="folder whose new images are inspected; repeatable", rich_help_panel=INPUT_OUTPUT),
    ] = None,
    camera: Annotated[
        list[str] | None,
        typer.Option(
            help="aravis:NAME, harvesters:FILE.cti, camera number, rtsp://... or video file; repeatable",
            rich_help_panel=INPUT_OUTPUT,
        ),
    ] = None,
    camera_interval_s: Annotated[
        float, typer.Option(min=0, help="time between images of a camera, in seconds", rich_help_panel=INPUT_OUTPUT)
    ] = 1.0,
    line: Annotated[
        str | None,
        typer.Option(
            metavar="URL",
            help="modbus://, opcua:// or tcp://HOST:PORT, or a plug-in's, where a PLC asks for parts",
            rich_help_panel=INPUT_OUTPUT,
        ),
    ] = None,
    nodeset: Annotated[
        Path | None,
        typer.Option(help="published nodeset of OPC 40100-1, for opcua://", rich_help_panel=INPUT_OUTPUT),
    ] = None,
    line_camera: Annotated[
        list[str] | None,
        typer.Option(
            metavar="CAMERA",
            help="camera that the PLC triggers, as for --camera; VIEW=CAMERA for each of several views",
            rich_help_panel=INPUT_OUTPUT,
        ),
    ] = None,
    sink: Annotated[
        list[str] | None,
        typer.Option(
            help="sink of results: csv:FILE, jsonl:FILE, http(s)://... or mqtt(s)://HOST/TOPIC; repeatable",
            rich_help_panel=INPUT_OUTPUT,
        ),
    ] = None,
    shift: Annotated[
        list[str] | None,
        typer.Option(
            help="start of a shift, HH:MM; repeatable", show_default="06:00, 14:00, 22:00", rich_help_panel=DISPLAYS
        ),
    ] = None,
    shift_reports: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="folder for a PDF report after each shift", rich_help_panel=DISPLAYS),
    ] = None,
    shift_report_language: Annotated[
        str, typer.Option(metavar="NAME", help="language of these reports, such as zh", rich_help_panel=DISPLAYS)
    ] = "en",
    verdict_age_s: Annotated[
        float,
        typer.Option(
            min=0.1,
            help="time after which a verdict is no longer shown as the present one, in seconds",
            rich_help_panel=DISPLAYS,
        ),
    ] = 10.0,
    alarm_no_part_s: Annotated[
        float, typer.Option(min=0, help="alarm: time without a part, in seconds; 0: never", rich_help_panel=DISPLAYS)
    ] = 300.0,
    alarm_reject_rate: Annotated[
        float,
        typer.Option(min=0, max=1, help="alarm: share of rejects among the newest 50 parts", rich_help_panel=DISPLAYS),
    ] = 0.5,
    alarm_reject_run: Annotated[
        int, typer.Option(min=0, help="alarm: rejects in a row; 0: never", rich_help_panel=DISPLAYS)
    ] = 10,
    alarm_free_gib: Annotated[
        float, typer.Option(min=0, help="alarm: less free space on the disk, in GiB", rich_help_panel=DISPLAYS)
    ] = 1.0,
    segmenter: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE", help="ONNX network in EfficientSAM's interface, for labelling by a click or a box"
        ),
    ] = None,
    secure_cookies: Annotated[bool, typer.Option("--secure-cookies", help="cookies for HTTPS only")] = False,
) -> None:
    """Start the inspection station: record, REST API and web pages."""
    with needs_extra("station"):
        from blemish.station.cameras.connect import driver_maker
        from blemish.station.line.cameras import split_name
        from blemish.station.settings import Settings
        from blemish.station.sinks import check_sink
    from blemish.report.pdf import check_pdf

    for text in sink or []:
        check_sink(text)
    for text in camera or []:
        driver_maker(text)
    for text in line_camera or []:
        driver_maker(split_name(text)[1])
    if shift_reports is not None:
        check_pdf()
    settings = validate(Settings, dict(
        data=data, db=db, station=station, host=host, port=port, engine=engine, threads=threads,
        queue_depth=queue_depth, batch_size=batch_size, batch_wait_ms=batch_wait_ms,
        max_image_bytes=max_image_mib * 2**20, max_pixels=max_pixels, time_limit_s=time_limit_s,
        image_folders=images or [], keep=keep, keep_days=keep_days, keep_gib=keep_gib, known=known or [],
        watch=watch or [],
        cameras=camera or [], camera_interval_s=camera_interval_s, line=line,
        line_nodeset=nodeset, line_cameras=line_camera or [],
        sinks=sink or [], secure_cookies=secure_cookies, segmenter=segmenter,
        no_tokens=no_tokens, bundle_key=bundle_key, done_days=done_days, outbox_days=outbox_days,
        **({"shifts": shift} if shift else {}), verdict_age_s=verdict_age_s,
        shift_reports=shift_reports, shift_report_language=shift_report_language, no_part_s=alarm_no_part_s or None,
        max_reject_rate=alarm_reject_rate, max_reject_run=alarm_reject_run or None, min_free_gib=alarm_free_gib,
    ), "station")  # fmt: skip
    if new_token is not None:
        _print_new_token(settings, new_token)
    elif new_user is not None:
        _add_user(settings, new_user)
    else:
        _run(settings, bundle)


def _print_new_token(settings: Any, text: str) -> None:
    from blemish.station.auth import create_token
    from blemish.station.database import open_database

    name, role = _name_and_role(text, "--new-token")
    with open_database(settings.url).writing() as session:
        token = create_token(session, name, role, "command line")
    log.info("only its hash is stored; note it now")
    console.print(token, soft_wrap=True)


def _add_user(settings: Any, text: str) -> None:
    from blemish.station.auth import create_user
    from blemish.station.database import open_database

    name, role = _name_and_role(text, "--new-user")
    password = typer.prompt("password", hide_input=True, confirmation_prompt=sys.stdin.isatty(), err=True)
    with open_database(settings.url).writing() as session:
        create_user(session, name, role, password, "command line")


def _name_and_role(text: str, option: str) -> tuple[str, str]:
    name, _, role = text.partition(":")
    if not re.fullmatch(r"[\w.-]{1,100}", name) or not role:
        raise OptionError(f"give {option} NAME:ROLE, such as anna:engineer")
    return name, role


def _run(settings: Any, bundle: Path | None) -> None:
    import uvicorn

    from blemish.station.api import create_app
    from blemish.station.http_protocol import TimedHttpProtocol
    from blemish.station.pages.site import add_pages
    from blemish.station.redaction import RedactingFilter
    from blemish.station.station import activate_bundle, check_access, open_station

    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))  # uvicorn raises the signal again when it is done
    hide_log()  # a server's messages have a time
    logging.basicConfig(level=logging.WARNING, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    for handler in logging.getLogger().handlers:
        handler.addFilter(RedactingFilter())
    with open_station(settings) as station:
        check_access(settings, station.database)
        if bundle is not None:
            activate_bundle(station, bundle)
        app = create_app(station)
        add_pages(app, station)
        messages.print(f"http://{settings.host}:{settings.port}, record in {settings.data}; Ctrl-C ends it")
        uvicorn.run(
            app,
            host=settings.host,
            port=settings.port,
            log_level="warning",
            access_log=False,
            server_header=False,
            proxy_headers=False,  # a request that came through a proxy is never one of this machine
            http=TimedHttpProtocol,
            log_config=None,  # through the handlers above
            timeout_graceful_shutdown=30,
        )
