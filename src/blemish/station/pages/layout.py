"""The layout around every page, and how a page is added."""

import logging
from collections.abc import Awaitable, Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from urllib.parse import quote

from fastapi import Request
from fastapi.responses import RedirectResponse
from nicegui import ui
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.orm import Session
from starlette.responses import Response

from blemish.errors import BlemishError
from blemish.station.pages.heartbeat import add_heartbeat
from blemish.station.pages.help import show_help
from blemish.station.pages.session import DATABASE_LOST, LANGUAGE_COOKIE, THEME_COOKIE, PageSession, open_session
from blemish.station.pages.widgets import empty_state
from blemish.station.recipes import active_recipe, recipe_title
from blemish.station.station import Station
from blemish.translation import language_name, languages

log = logging.getLogger("blemish.station")
Build = Callable[[PageSession, Request], Awaitable[None]]
Frame = Callable[[PageSession, str, str, str | None], AbstractContextManager[None]]
STYLE = Path(__file__).with_name("style.css").read_text(encoding="utf-8")
PRIMARY, DARK_PRIMARY = "#1f4e79", "#4a90d0"
MENU = (
    ("/", "Live", "monitor_heart"),
    ("/review", "Review", "rate_review"),
    ("/threshold", "Thresholds", "tune"),
    ("/rules", "Rules and zones", "polyline"),
    ("/training", "Data and training", "model_training"),
    ("/camera", "Camera", "photo_camera"),
    ("/labelling", "Labelling", "draw"),
    ("/trace", "Trace", "search"),
    ("/trends", "Trends", "show_chart"),
    ("/studies", "Gauge studies", "straighten"),
)


def add_page(
    station: Station, path: str, title: str, build: Build, role: str = "operator", frame: "Frame | None" = None
) -> None:
    """Serve a page to users with the role; users without a session sign in first."""

    @ui.page(path, response_timeout=30)
    async def page(request: Request) -> Response | None:
        session = open_session(station, request)
        recipe: str | None = None
        problem: tuple[str, ...] = ()
        try:
            user = session.user()
            if user is None:
                return RedirectResponse(f"/login?next={quote(request.url.path)}", 303)
            recipe = await session.read(_active_recipe)
            if not user.may(role):
                refused = session.t("Your role ({role}) cannot open this page", role=session.t(user.role))
                problem = ("lock", refused, session.t("The role {role} is required.", role=session.t(role)))
        except SQLAlchemyError:
            log.exception("a page could not reach the database")
            problem = ("cloud_off", session.t(DATABASE_LOST))
        with (frame or layout)(session, title, request.url.path, recipe):
            if problem:
                empty_state(*problem)
                return None
            try:
                await build(session, request)
            except BlemishError as error:
                empty_state("error_outline", session.t("This action failed"), session.error(error))
            except SQLAlchemyError:
                log.exception("a page could not reach the database")
                empty_state("cloud_off", session.t(DATABASE_LOST))
            except Exception as error:
                log.exception("a page could not be shown")
                empty_state("error_outline", session.t("This action failed"), type(error).__name__)
        return None


@contextmanager
def layout(page: PageSession, title: str, path: str, recipe: str | None) -> Iterator[None]:
    """Header and menu; elements that are made in the block are the page's content."""
    t = page.t
    _head(page, title)
    menu = _menu(page, path)
    with ui.header().classes("head"):
        _icon_button("menu", t("Menu")).on("click", js_handler=f"() => getElement({menu.id}).toggle()").classes(
            "lt-menu"
        )
        ui.label("blemish").classes("brand")
        ui.label(page.station.settings.station).classes("station-name")
        ui.space()
        ui.label("").classes("connection").props("role=status")
        with ui.link(target="/").classes("alarm-link").props(f'aria-label="{t("Alarms")}"').tooltip(t("Alarms")):
            ui.label("").classes("alarm-count").style("display: none")
        shown = ui.label(recipe or t("no recipe")).classes("recipe-name").tooltip(t("active recipe"))
        shown.props(f'data-title="{t("active recipe")}"')  # which need not be that of the part that a page shows
        theme = f"{THEME_COOKIE}={'light' if page.dark else 'dark'};path=/;max-age=31536000;samesite=strict"
        name = t("Light theme") if page.dark else t("Dark theme")
        change = _icon_button("light_mode" if page.dark else "dark_mode", name).tooltip(name).props("data-name=theme")
        change.on("click", js_handler=f"() => {{ document.cookie='{theme}'; location.reload() }}")
        _icon_button("help_outline", t("Help")).tooltip(t("Help")).props("data-name=help").on_click(
            lambda: show_help(page, path)
        )
        language_buttons(page.language, "white")
        if page.cookie is not None:
            leave = "() => fetch('/v1/session', {method: 'DELETE'}).then(() => location.assign('/login'))"
            _icon_button("logout", t("Sign out")).tooltip(t("Sign out")).on("click", js_handler=leave)
    with ui.column().classes("page"):
        ui.label(t(title)).classes("page-title")
        yield


@contextmanager
def line_layout(page: PageSession, title: str, path: str, recipe: str | None) -> Iterator[None]:
    """The whole screen for the page's content, dark."""
    _head(page, title, dark=True)
    with ui.element("main").classes("line-page"):
        yield


def language_buttons(shown: str, colour: str) -> None:
    """A button for each language but the one that is shown."""
    for language in languages():
        if language != shown:
            cookie = f"document.cookie='{LANGUAGE_COOKIE}={language};path=/;max-age=31536000;samesite=strict'"
            button = ui.button(language_name(language)).props(f"flat dense color={colour} no-caps data-name=language")
            button.on("click", js_handler=f"() => {{ {cookie}; location.reload() }}")


def _menu(page: PageSession, path: str) -> ui.element:
    """The browser alone knows whether its menu is open. `ui.left_drawer` asks for it and sends it back, so that a
    window that was resized in the meantime was covered by the menu; and without a connection it could not be opened."""
    layout = ui.context.client.layout.props('view="hhh Lpr fff"')  # it stands still while the page scrolls
    with layout, ui.element("q-drawer").props("show-if-above side=left breakpoint=900 width=232") as menu:
        for target, name, icon in MENU:
            with ui.link(target=target).classes("menu-entry chosen" if target == path else "menu-entry"):
                ui.icon(icon, size="20px")
                ui.label(page.t(name))
    return menu.classes("nicegui-drawer menu").move(target_index=0)


def _head(page: PageSession, title: str, dark: bool = False) -> None:
    ui.add_css(STYLE)
    ui.dark_mode(dark or page.dark)
    ui.page_title(f"{page.t(title)} · blemish")
    ui.add_head_html(f"<script>document.documentElement.lang = '{page.language}'</script>")
    ui.colors(
        primary=DARK_PRIMARY if dark or page.dark else PRIMARY,
        positive="#16a34a",
        negative="#dc2626",
        warning="#d97706",
    )
    add_heartbeat(page)


def _icon_button(icon: str, name: str) -> ui.button:
    return ui.button(icon=icon).props(f'flat dense color=white aria-label="{name}"')


def _active_recipe(session: Session) -> str | None:
    recipe = active_recipe(session)
    return None if recipe is None else recipe_title(recipe)
