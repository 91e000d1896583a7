"""Access control: tokens and users with roles, stored as hashes, and sessions of browsers with CSRF tokens."""

import hashlib
import os
import secrets
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

from argon2 import PasswordHasher
from argon2.exceptions import InvalidHashError, VerificationError
from itsdangerous import Signer
from sqlalchemy import delete, func, select
from sqlalchemy.orm import Session

from blemish.errors import BlemishError, OptionError, unknown
from blemish.station.database import ACCESS, Database, mark_changed
from blemish.station.models import SessionRow, TokenRow, UserRow, now
from blemish.station.repository import log_change

ROLES = ("line", "operator", "engineer", "admin")  # each may do everything that the ones before it may
COOKIE, CSRF_HEADER = "blemish_session", "x-csrf-token"
SESSION_S = 12 * 3600
MIN_PASSWORD, MAX_PASSWORD = 10, 200  # characters
REFRESH_S, MAX_AGE_S = 1.0, 3.0  # of the list of those who have access, which another station may have changed
_PREFIX = "blm_"
_SECRET_BYTES = 32


class LastAdminError(OptionError):
    """The last user with the right to create tokens and users cannot be removed."""


class TooManyFailuresError(BlemishError):
    """Sign-ins failed; `wait_s` seconds must pass before the next one."""

    def __init__(self, wait_s: float) -> None:
        super().__init__(f"too many failed sign-ins; retry in {wait_s:.0f} s")
        self.wait_s = wait_s


@dataclass(frozen=True, slots=True)
class User:
    name: str
    role: str

    def may(self, role: str) -> bool:
        return ROLES.index(self.role) >= ROLES.index(role)


LOCAL_USER = User("local", "admin")  # until the first token or user is made
Holder = TokenRow | UserRow


def create_token(session: Session, name: str, role: str, user: str) -> str:
    """Create a token and return it; only its hash is stored. OptionError for a name in use or an unknown role."""
    _check_name(session, name, role)
    token = _PREFIX + secrets.token_urlsafe(32)
    session.add(TokenRow(name=name, role=role, sha256=_hash(token)))
    _log_access(session, user, "token", name, after={"role": role})
    return token


def create_user(session: Session, name: str, role: str, password: str, user: str) -> UserRow:
    """Create a user; OptionError for a name in use, an unknown role, or a password of too few characters."""
    _check_name(session, name, role)
    row = UserRow(name=name, role=role, password=_hash_password(password))
    session.add(row)
    _log_access(session, user, "user", name, after={"role": role})
    return row


def change_password(session: Session, row: UserRow, password: str, user: str) -> None:
    """Set a password, and end the sessions that were opened with the old one."""
    row.password = _hash_password(password)
    session.execute(delete(SessionRow).where(SessionRow.user_id == row.id))
    _log_access(session, user, "password", row.name)


def _check_name(session: Session, name: str, role: str) -> None:
    if role not in ROLES:
        raise OptionError(unknown("role", role, ROLES))
    for table, kind in ((TokenRow, "token"), (UserRow, "user")):
        if session.scalar(select(table.id).where(table.name == name)) is not None:
            raise OptionError(f"{kind} '{name}' exists already; names are not used twice")


def _hash_password(password: str) -> str:
    if not MIN_PASSWORD <= len(password) <= MAX_PASSWORD:
        raise OptionError(f"give a password of {MIN_PASSWORD} to {MAX_PASSWORD} characters")
    return PasswordHasher().hash(password.encode("utf-8", "replace"))


def revoke(session: Session, row: Holder, user: str) -> None:
    """Revoke a token, or the access of a user; raises LastAdminError for the last administrator."""
    if row.revoked_at is not None:
        return
    if row.role == "admin" and count_admins(session) == 1:
        raise LastAdminError(f"'{row.name}' is the last administrator; make another one first")
    row.revoked_at = now()
    column = SessionRow.token_id if isinstance(row, TokenRow) else SessionRow.user_id
    session.execute(delete(SessionRow).where(column == row.id))
    _log_access(session, user, "revoke", row.name, before={"role": row.role})


def count_admins(session: Session) -> int:
    counts = (
        session.scalar(select(func.count()).select_from(t).where(t.role == "admin", t.revoked_at.is_(None)))
        for t in (TokenRow, UserRow)
    )
    return sum(count or 0 for count in counts)


def _log_access(session: Session, user: str, action: str, name: str, **details: Any) -> None:
    log_change(session, user, action, name, **details)
    mark_changed(session, ACCESS)


def has_access_control(session: Session) -> bool:
    """Whether a token or a user was ever made."""
    return any(session.scalar(select(table.id).limit(1)) is not None for table in (TokenRow, UserRow))


def find_token(session: Session, token: str) -> TokenRow | None:
    """The valid token, or None. Tokens have 256 random bits, so a plain hash of them cannot be reversed by guessing."""
    return session.scalar(select(TokenRow).where(TokenRow.sha256 == _hash(token), TokenRow.revoked_at.is_(None)))


class PasswordChecker:
    """Checks passwords one at a time, because each check takes 64 MiB of memory."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._hasher = PasswordHasher()
        self._nobody = self._hasher.hash(secrets.token_bytes(16))  # so that an unknown name takes as long

    def find_user(self, session: Session, name: str, password: str) -> UserRow | None:
        row = session.scalar(select(UserRow).where(UserRow.name == name, UserRow.revoked_at.is_(None)))
        with self._lock:
            try:
                self._hasher.verify(self._nobody if row is None else row.password, password.encode("utf-8", "replace"))
            except (VerificationError, InvalidHashError):
                return None
        return row


class SignInThrottle:
    """Delays sign-ins after failures: from the fifth on by 2, 4, 8 ... seconds, up to five minutes."""

    FREE, MAX_WAIT_S, MAX_KNOWN = 4, 300.0, 10_000

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._failures: dict[str, tuple[int, float]] = {}  # who -> how many, and when the next one may come

    def check(self, who: str) -> None:
        """Raise TooManyFailuresError where it is too early for another attempt."""
        left = self._failures.get(who, (0, 0.0))[1] - self._clock()
        if left > 0:
            raise TooManyFailuresError(max(1.0, left))

    def failed(self, who: str) -> int:
        """Count a failure; returns how many there were."""
        with self._lock:
            number = self._failures.pop(who, (0, 0.0))[0] + 1
            wait_s = 0.0 if number <= self.FREE else min(self.MAX_WAIT_S, 2.0 ** (number - self.FREE))
            self._failures[who] = (number, self._clock() + wait_s)
            while len(self._failures) > self.MAX_KNOWN:
                self._failures.pop(next(iter(self._failures)))
            return number

    def succeeded(self, who: str) -> None:
        with self._lock:
            self._failures.pop(who, None)


def open_session(session: Session, row: Holder) -> str:
    """The cookie of a new session of a token or a user; only its hash is stored."""
    session.execute(delete(SessionRow).where(SessionRow.expires_at < now()))
    cookie = secrets.token_urlsafe(32)
    holder = {"token_id": row.id} if isinstance(row, TokenRow) else {"user_id": row.id}
    session.add(SessionRow(sha256=_hash(cookie), expires_at=now() + timedelta(seconds=SESSION_S), **holder))
    mark_changed(session, ACCESS)
    return cookie


def end_session(session: Session, cookie: str) -> None:
    session.execute(delete(SessionRow).where(SessionRow.sha256 == _hash(cookie)))
    mark_changed(session, ACCESS)


class AccessList:
    """Who has access, in memory, so that neither a part nor a page asks the database for it.

    It is read again after each change by this process, and every `REFRESH_S`, as other stations may share the database.
    """

    def __init__(self, database: Database) -> None:
        self._database = database
        self._lock = threading.Lock()
        self._tokens: dict[str, User] = {}
        self._holders: dict[str, User] = {}
        self._sessions: dict[str, tuple[User, float]] = {}
        self._version, self._read_at = -1, 0.0
        self.controlled = True  # a token or a user was ever made
        self.refresh()

    def watch(self, stop: threading.Event) -> None:
        while not stop.wait(REFRESH_S):
            try:
                self.refresh()
            except Exception:  # requests try again themselves, and then are refused
                continue

    @property
    def is_fresh(self) -> bool:
        return self._version == self._database.changes[ACCESS] and time.monotonic() - self._read_at < MAX_AGE_S

    def ensure_fresh(self) -> None:
        """Read the list again where it may be out of date; raises SQLAlchemyError where that fails."""
        if not self.is_fresh:
            self.refresh()

    def refresh(self) -> None:
        """Read it now; raises SQLAlchemyError."""
        version = self._database.changes[ACCESS]
        with self._database.reading() as session:
            tokens = {row.id: row for row in session.scalars(select(TokenRow))}
            users = {row.id: row for row in session.scalars(select(UserRow))}
            rows = list(session.scalars(select(SessionRow).where(SessionRow.expires_at > now())))
        sessions = {}
        for row in rows:
            holder = tokens[row.token_id] if row.token_id is not None else users[row.user_id or 0]
            if holder.revoked_at is None:
                left_s = (row.expires_at - now()).total_seconds()
                sessions[row.sha256] = (User(holder.name, holder.role), time.monotonic() + left_s)
        with self._lock:
            if version < self._version:
                return  # another thread has read a newer list meanwhile
            self._tokens = {row.sha256: User(row.name, row.role) for row in tokens.values() if row.revoked_at is None}
            holders: list[Holder] = [*tokens.values(), *users.values()]
            self._holders = {_proof(row): User(row.name, row.role) for row in holders if row.revoked_at is None}
            self._sessions, self.controlled = sessions, bool(tokens or users)
            self._version, self._read_at = version, time.monotonic()

    def token_user(self, token: str) -> User | None:
        return self._tokens.get(_hash(token))

    def follow(self, row: Holder) -> Callable[[], str | None]:
        """The present role of a token or a user: None as soon as it is revoked, or has another password."""
        proof = _proof(row)

        def role() -> str | None:
            user = self._holders.get(proof)
            return None if user is None else user.role

        return role

    def cookie_user(self, cookie: str) -> User | None:
        """The user of a session that has neither expired nor ended, and whose token or user is not revoked."""
        user, expires = self._sessions.get(_hash(cookie), (None, 0.0))
        return user if time.monotonic() < expires else None


def _proof(row: Holder) -> str:
    """The hash by which a holder signs in; different for all, as hashes of passwords have a salt."""
    return row.sha256 if isinstance(row, TokenRow) else row.password


def csrf_token(secret: bytes, cookie: str) -> str:
    """The value that a page sends in the header x-csrf-token with every change that it makes by cookie."""
    return _csrf_signer(secret).get_signature(cookie).decode()


def check_csrf(secret: bytes, cookie: str, token: str) -> bool:
    return _csrf_signer(secret).verify_signature(cookie, token)


def load_secret(folder: Path) -> bytes:
    """The signing key of the station, created at the first start, readable by its owner only."""
    path = folder / "secret"
    folder.mkdir(parents=True, exist_ok=True)
    try:
        descriptor = os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600)
        with os.fdopen(descriptor, "wb") as stream:
            stream.write(secrets.token_bytes(_SECRET_BYTES))
    except FileExistsError:
        pass
    secret = path.read_bytes()
    if len(secret) != _SECRET_BYTES:
        raise OptionError(f"{path} is damaged; delete it, and everybody has to sign in again")
    return secret


def _hash(token: str) -> str:
    return hashlib.sha256(token.encode("utf-8", "replace")).hexdigest()


def _csrf_signer(secret: bytes) -> Signer:
    return Signer(secret, salt="csrf", digest_method=hashlib.sha256)
