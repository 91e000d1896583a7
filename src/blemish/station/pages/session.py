"""The session of a page: its user and language, database access, and how errors are shown."""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from contextlib import AbstractContextManager
from dataclasses import replace
from typing import TypeVar

from fastapi import Request
from nicegui import ui
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.orm import Session

from blemish.errors import BlemishError
from blemish.report.formatting import reason_text
from blemish.station import auth
from blemish.station.auth import User
from blemish.station.models import InspectionRow
from blemish.station.repository import to_inspection
from blemish.station.routes.access import is_direct, page_user
from blemish.station.station import Station
from blemish.translation import languages, negotiate_language, translate_error, translator

log = logging.getLogger("blemish.station")
LANGUAGE_COOKIE, THEME_COOKIE = "blemish_language", "blemish_theme"
DATABASE_LOST = "The database cannot be reached; try again."
Result = TypeVar("Result")


class NotAllowedError(BlemishError):
    """The user's role is not sufficient, or the token was revoked."""


class PageSession:
    """One open page. `t` translates a text of the pages, or the name of a class, to the user's language."""

    def __init__(
        self, station: Station, cookie: str | None, language: str, direct: bool = False, dark: bool = False
    ) -> None:
        self.station = station
        self.cookie = cookie
        self.language = language
        self.direct = direct  # asked for from this machine, and not through a proxy
        self.dark = dark
        self.t = translator(language)
        self.asking = False  # whether painting that is not saved may be lost

    def reasons(self, row: InspectionRow) -> list[str]:
        """The reasons for the verdict, in the user's language."""
        reasons = to_inspection(row, masks=False).reasons
        return [reason_text(replace(own, detail=own.detail and self.error(own.detail)), self.t) for own in reasons]

    def user(self) -> User | None:
        """The user, looked up at each call, so that pages stop working when the token is revoked."""
        return page_user(self.station, self.cookie, self.direct)

    def require(self, role: str) -> User:
        user = self.user()
        if user is None:
            raise NotAllowedError(self.t("Your token is no longer valid; sign in again."))
        if not user.may(role):
            roles = {"role": self.t(role), "own": self.t(user.role)}
            raise NotAllowedError(self.t("The role {role} is required; you have the role {own}.", **roles))
        return user

    def may(self, role: str) -> bool:
        user = self.user()
        return user is not None and user.may(role)

    def read(self, work: Callable[..., Result], *arguments: object) -> Awaitable[Result]:
        """`work(session, ...)` in a thread, so that no page waits for the database of another."""
        return asyncio.to_thread(_in_session, self.station.database.reading, work, arguments)

    def write(self, work: Callable[..., Result], *arguments: object) -> Awaitable[Result]:
        """Like `read`, committed."""
        return asyncio.to_thread(_in_session, self.station.database.writing, work, arguments)

    def handler(self, role: str, work: Callable[[User], Awaitable[None]]) -> Callable[[], Awaitable[None]]:
        """An event handler that runs `work(user)` if the user has the role, and shows its errors in one line."""

        async def handle() -> None:
            try:
                await work(self.require(role))
            except BlemishError as error:
                self.notify_error(self.error(error))
            except SQLAlchemyError:
                log.exception("a page could not reach the database")
                self.notify_error(self.t(DATABASE_LOST))
            except TimeoutError:  # an OSError too, but of the browser
                log.exception("a page did not answer")
                self.notify_error(self.t("The browser did not answer in time; try again."))
            except OSError as error:
                log.exception("a page could not read or write a file")
                reason = f"{error.strerror or error} ({error.filename or ''})".removesuffix(" ()")
                self.notify_error(self.t("A file could not be read or written: {reason}", reason=reason))

        return handle

    def error(self, error: object) -> str:
        """The message of an error in the language of the page."""
        return translate_error(error, self.language)

    def notify_error(self, message: str) -> None:
        ui.notify(message, type="negative", position="top", multi_line=True, close_button=self.t("Close"), timeout=8000)

    def notify(self, message: str) -> None:
        ui.notify(message, type="positive", position="top", timeout=2000)


def open_session(station: Station, request: Request) -> PageSession:
    language = request.cookies.get(LANGUAGE_COOKIE, "")
    if language not in languages():
        language = negotiate_language(request.headers.get("accept-language", ""))
    dark = request.cookies.get(THEME_COOKIE) == "dark"
    return PageSession(station, request.cookies.get(auth.COOKIE), language, is_direct(request), dark)


def _in_session(
    open_: Callable[[], AbstractContextManager[Session]], work: Callable[..., Result], arguments: tuple[object, ...]
) -> Result:
    with open_() as session:
        return work(session, *arguments)
