"""What all pages share: the frame around them, and how one is added."""

import json
import logging
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import quote

from fastapi import Request
from fastapi.responses import RedirectResponse
from nicegui import ui
from sqlalchemy.exc import SQLAlchemyError
from starlette.responses import Response

from blemish.errors import BlemishError
from blemish.station import recipes
from blemish.station.pages.session import LANGUAGE_COOKIE, Visitor, visitor_of
from blemish.station.pages.texts import CHINESE, ENGLISH
from blemish.station.station import Station

log = logging.getLogger("blemish.station")
Build = Callable[[Visitor, Request], Awaitable[None]]
STYLE = Path(__file__).with_name("style.css").read_text(encoding="utf-8")
PRIMARY = "#1f4e79"
MENU = (
    ("/", "Live", "monitor_heart"),
    ("/review", "Review", "rate_review"),
    ("/threshold", "Thresholds", "tune"),
    ("/training", "Data and training", "model_training"),
    ("/trace", "Trace", "search"),
    ("/trends", "Trends", "show_chart"),
)


def add_page(station: Station, path: str, title: str, build: Build, role: str = "operator") -> None:
    """Serve a page to those who may see it; others sign in first."""

    @ui.page(path, response_timeout=30)
    async def shown(request: Request) -> Response | None:
        visitor = visitor_of(station, request)
        try:
            user, recipe = visitor.user(), _recipe_in_use(visitor)
        except SQLAlchemyError:
            log.exception("a page could not reach the record")
            with frame(visitor, title, request.url.path, None):
                empty("cloud_off", visitor.t("The record cannot be reached; try again."), "")
            return None
        if user is None:
            return RedirectResponse(f"/login?next={quote(request.url.path)}", 303)
        with frame(visitor, title, request.url.path, recipe):
            if not user.may(role):
                empty("lock", visitor.t("Not for you"), visitor.needs(role, user))
                return None
            try:
                await build(visitor, request)
            except BlemishError as error:
                empty("error_outline", visitor.t("That does not work"), str(error))
            except SQLAlchemyError:
                log.exception("a page could not reach the record")
                empty("cloud_off", visitor.t("The record cannot be reached; try again."), "")
            except Exception as error:
                log.exception("a page could not be shown")
                empty("error_outline", visitor.t("That does not work"), type(error).__name__)
        return None


@contextmanager
def frame(visitor: Visitor, title: str, path: str, recipe: str | None) -> Iterator[None]:
    """Head and menu; what is made within is the page's content."""
    t = visitor.t
    ui.add_css(STYLE)
    ui.page_title(f"{t(title)} · blemish")
    if visitor.language == CHINESE:
        ui.add_head_html("<script>document.documentElement.lang = 'zh-CN'</script>")
    ui.colors(primary=PRIMARY, positive="#16a34a", negative="#dc2626", warning="#d97706")
    with ui.left_drawer(fixed=True, value=None).props("show-if-above breakpoint=900 width=232").classes("menu") as menu:
        for target, name, icon in MENU:
            chosen = " chosen" if target == path else ""
            with ui.link(target=target).classes(f"menu-entry{chosen}"):
                ui.icon(icon, size="20px")
                ui.label(t(name))
    with ui.header().classes("head"):
        ui.button(icon="menu", on_click=menu.toggle).props(f'flat dense color=white aria-label="{t("Menu")}"').classes(
            "lt-menu"
        )
        ui.label("blemish").classes("brand")
        ui.label(visitor.station.settings.station).classes("station-name")
        ui.space()
        ui.label(recipe or t("no recipe")).classes("recipe-name").tooltip(t("recipe in use"))
        other, shown = (ENGLISH, "EN") if visitor.language == CHINESE else (CHINESE, "中文")
        set_language = f"document.cookie='{LANGUAGE_COOKIE}={other};path=/;max-age=31536000;samesite=strict'"
        ui.button(shown).props("flat dense color=white no-caps data-name=language").on(
            "click", js_handler=f"() => {{ {set_language}; location.reload() }}"
        )
        if visitor.cookie is not None:
            leave = "() => fetch('/session', {method: 'DELETE'}).then(() => location.assign('/login'))"
            ui.button(icon="logout").props(f'flat dense color=white aria-label="{t("Sign out")}"').tooltip(
                t("Sign out")
            ).on("click", js_handler=leave)
    with ui.column().classes("page"):
        ui.label(t(title)).classes("page-title")
        yield


def _recipe_in_use(visitor: Visitor) -> str | None:
    with visitor.station.database.reading() as session:
        recipe = recipes.active(session)
        return None if recipe is None else f"{recipe.name} v{recipe.version}"


def empty(icon: str, title: str, text: str = "") -> None:
    """What stands where there is nothing to show."""
    with ui.column().classes("empty"):
        ui.icon(icon, size="44px")
        ui.label(title).classes("empty-title")
        if text:
            ui.label(text)


@contextmanager
def panel(title: str = "", extra: str = "") -> Iterator[ui.element]:
    """A white box with a heading."""
    with ui.element("section").classes(f"panel {extra}") as box:
        if title:
            ui.label(title).classes("panel-title")
        yield box


@contextmanager
def dialog(title: str, width: int = 440) -> Iterator[ui.dialog]:
    """A window over the page, which outlives the button that opened it."""
    with ui.context.client.content, ui.dialog(value=True) as found, ui.card() as card:
        card.style(f"width: {width}px; max-width: 92vw; align-items: stretch")
        ui.label(title).classes("panel-title")
        yield found


def figure(name: str, value: str, hint: str = "", tone: str = "") -> None:
    """One number, large, under its name."""
    with ui.element("div").classes(f"figure {tone}"):
        ui.label(name).classes("figure-name")
        ui.label(value).classes("figure-value")
        if hint:
            ui.label(hint).classes("figure-hint")


def verdict_badge(visitor: Visitor, verdict: str) -> None:
    ui.label(visitor.t(verdict)).classes(f"verdict {verdict}")


def picture(visitor: Visitor, inspection_id: int, kind: str = "overlay", side: int = 640, more: str = "") -> ui.element:
    """A picture of an inspection, as the interface for machines gives it; browsers load it when it comes into view."""
    source = f"/inspections/{inspection_id}/{kind}?side={side}{more}"
    gone = f"(event) => {{ event.target.alt = {json.dumps(visitor.t('This picture cannot be shown.'))}; "
    gone += "event.target.classList.add('gone') }"
    shown = ui.element("img").props(f'src="{source}" loading=lazy alt="{kind} {inspection_id}"').classes("picture")
    return shown.on("error", js_handler=gone)


def no_picture(visitor: Visitor) -> None:
    with ui.column().classes("no-picture"):
        ui.icon("hide_image", size="32px")
        ui.label(visitor.t("image not kept"))
