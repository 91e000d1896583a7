"""The web pages of a station, in the same application as its REST API."""

from functools import partial

from fastapi import FastAPI
from nicegui import app as nicegui_app
from nicegui import core, ui

from blemish.station.pages import (
    camera,
    dead_letters,
    inspection_card,
    labelling,
    line,
    live,
    login,
    reference,
    review,
    rules,
    studies,
    study,
    threshold,
    trace,
    training,
    trends,
)
from blemish.station.pages.layout import add_page, line_layout
from blemish.station.pages.not_found import not_found
from blemish.station.settings import MIB
from blemish.station.station import Station

MAX_MESSAGE_BYTES = 12 * MIB  # from a page: a painted mask of 4,096² px has less, however it was painted


def add_pages(app: FastAPI, station: Station) -> None:
    """Serve the pages of an open station. NiceGUI keeps pages by process, so a process serves those of one station."""
    login.add(station)
    add_page(station, "/", "Live", live.build)
    add_page(station, "/line", "Line display", line.build, frame=line_layout)
    add_page(station, "/review", "Review", review.build)
    add_page(station, "/threshold", "Thresholds", threshold.build)
    add_page(station, "/rules", "Rules and zones", rules.build)
    add_page(station, "/training", "Data and training", training.build, role="engineer")
    add_page(station, "/camera", "Camera", camera.build, role="engineer")
    add_page(station, "/labelling", "Labelling", labelling.build)
    add_page(station, "/trace", "Trace", trace.build)
    add_page(station, "/trends", "Trends", trends.build)
    add_page(station, "/studies", "Gauge studies", studies.build)
    add_page(station, "/studies/{study_id}", "Gauge study", study.build)
    add_page(station, "/card/{inspection_id}", "Inspection card", inspection_card.build)
    add_page(station, "/dead-letters", "Refused results", dead_letters.build)
    add_page(station, "/reference", "API reference", partial(reference.build, app))
    nicegui_app.add_exception_handler(404, lambda request, error: not_found(station, request))
    nicegui_app.on_shutdown(station.jobs.queries.stop)  # else the threads that wait for them hold up the end
    core.sio.eio.max_http_buffer_size = MAX_MESSAGE_BYTES
    ui.run_with(app, title="blemish", show_welcome_message=False, reconnect_timeout=10)
