"""Sign-in, the same for every way in: delayed after failures, and in the audit log."""

import logging
import re
from dataclasses import dataclass, field

from blemish.errors import BlemishError
from blemish.station.auth import AccessList, Holder, PasswordChecker, SignInThrottle, find_token
from blemish.station.database import Database
from blemish.station.repository import log_change

log = logging.getLogger("blemish.station")


class WrongSignInError(BlemishError):
    """There is no such token, or no such user with this password."""


@dataclass(frozen=True, slots=True)
class SignIns:
    """Thread-safe. Not on an event loop: it asks the database."""

    database: Database
    access: AccessList
    passwords: PasswordChecker = field(default_factory=PasswordChecker)
    throttle: SignInThrottle = field(default_factory=SignInThrottle)

    def check(self, address: str, name: str, password: str, token: str = "") -> Holder:
        """The holder of the token, or the user of name and password. `address` is where the attempt comes from.

        A valid token is never delayed: it cannot be guessed, and others must not keep its holder out by failures.
        Raises WrongSignInError, and TooManyFailuresError before anything is checked.
        """
        subject = name if re.fullmatch(r"[\w.-]{1,100}", name) else "token"
        who = f"{subject}@{address}"
        with self.database.reading() as session:
            row: Holder | None = find_token(session, token) if token else None
            if row is None:
                self.throttle.check(who)
                row = self.passwords.find_user(session, name, password) if name else None
        if row is None:
            self._note_failure(subject, address, self.throttle.failed(who))
            raise WrongSignInError("wrong name or password" if name else "invalid or revoked token")
        self.throttle.succeeded(who)
        with self.database.writing() as session:
            log_change(session, row.name, "sign-in", row.name, after={"address": address})
        self.access.refresh()  # another station may have made this token or user just now
        return row

    def _note_failure(self, subject: str, address: str, number: int) -> None:
        log.warning("sign-in of %s from %s failed (%d in a row)", subject, address, number)
        with self.database.writing() as session:
            log_change(session, subject, "sign-in failed", subject, after={"address": address, "in a row": number})
