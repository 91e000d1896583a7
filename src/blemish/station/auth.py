"""Access control: tokens with roles, stored as hashes, and signed session cookies with CSRF tokens for browsers."""

import hashlib
import os
import secrets
from dataclasses import dataclass
from pathlib import Path

from itsdangerous import BadData, Signer, URLSafeTimedSerializer
from sqlalchemy import select
from sqlalchemy.orm import Session

from blemish.errors import OptionError, unknown
from blemish.station.models import TokenRow, now
from blemish.station.repository import log_change

ROLES = ("line", "operator", "engineer", "admin")  # each may do everything that the ones before it may
COOKIE, CSRF_HEADER = "blemish_session", "x-csrf-token"
SESSION_S = 12 * 3600
_PREFIX = "blm_"
_SECRET_BYTES = 32


@dataclass(frozen=True, slots=True)
class User:
    name: str
    role: str

    def may(self, role: str) -> bool:
        return ROLES.index(self.role) >= ROLES.index(role)


LOCAL_USER = User("local", "admin")  # on loopback, until the first token is created


def create_token(session: Session, name: str, role: str, user: str) -> str:
    """Create a token and return it; only its hash is stored. OptionError for a name in use or an unknown role."""
    if role not in ROLES:
        raise OptionError(unknown("role", role, ROLES))
    if session.scalar(select(TokenRow.id).where(TokenRow.name == name)) is not None:
        raise OptionError(f"token '{name}' exists already; names are not used twice")
    token = _PREFIX + secrets.token_urlsafe(32)
    session.add(TokenRow(name=name, role=role, sha256=_hash(token)))
    log_change(session, user, "token", name, after={"role": role})
    return token


def revoke_token(session: Session, row: TokenRow, user: str) -> None:
    if row.revoked_at is None:
        row.revoked_at = now()
        log_change(session, user, "revoke", row.name, before={"role": row.role})


def has_tokens(session: Session) -> bool:
    return session.scalar(select(TokenRow.id).limit(1)) is not None


def find_token(session: Session, token: str) -> TokenRow | None:
    """The valid token, or None. Tokens have 256 random bits, so a plain hash of them cannot be reversed by guessing."""
    return session.scalar(select(TokenRow).where(TokenRow.sha256 == _hash(token), TokenRow.revoked_at.is_(None)))


def token_user(row: TokenRow | None) -> User | None:
    return None if row is None else User(row.name, row.role)


def make_cookie(secret: bytes, row: TokenRow) -> str:
    return str(_serializer(secret).dumps(row.id))


def cookie_user(session: Session, secret: bytes, cookie: str) -> User | None:
    """The user of a cookie with a valid signature, not older than `SESSION_S`, and whose token is not revoked."""
    try:
        token_id = _serializer(secret).loads(cookie, max_age=SESSION_S)
    except BadData:
        return None
    return token_user(session.scalar(select(TokenRow).where(TokenRow.id == token_id, TokenRow.revoked_at.is_(None))))


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


def _serializer(secret: bytes) -> URLSafeTimedSerializer:
    return URLSafeTimedSerializer(secret, salt="session", signer_kwargs={"digest_method": hashlib.sha256})


def _csrf_signer(secret: bytes) -> Signer:
    return Signer(secret, salt="csrf", digest_method=hashlib.sha256)
