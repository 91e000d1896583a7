"""Who looks at a page, in which language, and what becomes of what they do there."""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any, TypeVar

from fastapi import Request
from nicegui import ui
from sqlalchemy.exc import SQLAlchemyError

from blemish.errors import BlemishError
from blemish.station import auth
from blemish.station.auth import User
from blemish.station.pages.texts import CHINESE, ENGLISH, translate, translate_reason
from blemish.station.routes.access import browser_user
from blemish.station.station import Station

log = logging.getLogger("blemish.station")
LANGUAGE_COOKIE = "blemish_language"
Result = TypeVar("Result")


class NotAllowedError(BlemishError):
    """The visitor's role does not reach, or the token was revoked meanwhile."""


@dataclass(frozen=True, slots=True)
class Visitor:
    station: Station
    cookie: str | None
    language: str

    def t(self, text: str, **values: Any) -> str:
        """A text of the pages, or a class's name, in the visitor's language."""
        found = translate(text, self.language)
        return found.format(**values) if values else found  # a class may be called {x}

    def reason(self, text: str) -> str:
        return translate_reason(text, self.language)

    def user(self) -> User | None:
        """Asked anew each time, so that a revoked token ends what its pages may do."""
        return browser_user(self.station, self.cookie)

    def require(self, role: str) -> User:
        user = self.user()
        if user is None:
            raise NotAllowedError(self.t("Your token no longer holds; sign in again."))
        if not user.may(role):
            raise NotAllowedError(self.needs(role, user))
        return user

    def needs(self, role: str, user: User) -> str:
        return self.t("This takes the role {role}; you are {mine}.", role=self.t(role), mine=self.t(user.role))

    def may(self, role: str) -> bool:
        user = self.user()
        return user is not None and user.may(role)

    def read(self, work: Callable[..., Result], *arguments: Any) -> Awaitable[Result]:
        """`work(session, ...)` in a thread, so that no page waits for the database of another."""

        def reading() -> Result:
            with self.station.database.reading() as session:
                return work(session, *arguments)

        return asyncio.to_thread(reading)

    def write(self, work: Callable[..., Result], *arguments: Any) -> Awaitable[Result]:
        """As `read`, committed."""

        def writing() -> Result:
            with self.station.database.writing() as session:
                return work(session, *arguments)

        return asyncio.to_thread(writing)

    def does(self, role: str, work: Callable[[User], Awaitable[None]]) -> Callable[[], Awaitable[None]]:
        """A handler of what the visitor does: `work(user)`, with its errors shown in one line."""

        async def handler() -> None:
            try:
                await work(self.require(role))
            except BlemishError as error:
                self.complain(str(error))
            except SQLAlchemyError:
                log.exception("a page could not reach the record")
                self.complain(self.t("The record cannot be reached; try again."))

        return handler

    def complain(self, message: str) -> None:
        ui.notify(message, type="negative", position="top", multi_line=True, close_button=self.t("Close"), timeout=8000)

    def tell(self, message: str) -> None:
        ui.notify(message, type="positive", position="top", timeout=2000)


def visitor_of(station: Station, request: Request) -> Visitor:
    language = request.cookies.get(LANGUAGE_COOKIE, "")
    if language not in (ENGLISH, CHINESE):
        asked = request.headers.get("accept-language", "").lower()
        language = CHINESE if asked.startswith("zh") else ENGLISH
    return Visitor(station, request.cookies.get(auth.COOKIE), language)
