"""The web pages of a station, on the same application as its interface for machines."""

from fastapi import FastAPI
from nicegui import ui

from blemish.station.pages import card, data, live, login, review, threshold, trace, trends
from blemish.station.pages.frame import add_page
from blemish.station.station import Station


def add_pages(app: FastAPI, station: Station) -> None:
    """Serve the pages of an open station. NiceGUI keeps pages by process, so a process serves those of one station."""
    login.add(station)
    add_page(station, "/", "Live", live.build)
    add_page(station, "/review", "Review", review.build)
    add_page(station, "/threshold", "Thresholds", threshold.build)
    add_page(station, "/training", "Data and training", data.build, role="engineer")
    add_page(station, "/trace", "Trace", trace.build)
    add_page(station, "/trends", "Trends", trends.build)
    add_page(station, "/card/{inspection_id}", "Rejection card", card.build)
    ui.run_with(app, title="blemish", show_welcome_message=False, reconnect_timeout=10)
