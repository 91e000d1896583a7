"""Tokens, roles, session cookies and CSRF tokens."""

import hashlib
import re
import subprocess
import sys
from pathlib import Path

import pytest
from station_helpers import make_client, picture, run_station, send

from blemish.station import auth
from blemish.station.models import TokenRow
from blemish.station.station import Station


def tokens(station: Station) -> dict[str, str]:
    with station.database.writing() as session:
        return {role: auth.create_token(session, role, role, "test") for role in auth.ROLES}


def test_each_role_is_allowed_its_own_requests_only(station: Station) -> None:
    made = tokens(station)
    asks = {
        "line": ("GET", "/v1/recipes"),
        "operator": ("GET", "/v1/inspections"),
        "engineer": ("POST", "/v1/recipes/1/activate"),
        "admin": ("GET", "/v1/tokens"),
    }
    for role, token in made.items():
        client = make_client(station, token)
        assert (send(client, picture()).status_code) == 200
        for needed, (method, path) in asks.items():
            enough = auth.ROLES.index(role) >= auth.ROLES.index(needed)
            assert client.request(method, path).status_code == (200 if enough else 403), (role, path)
    nobody = make_client(station)
    open_paths = {"/healthz", "/readyz", "/openapi.json", "/v1/session"}
    for path, operations in nobody.get("/openapi.json").json()["paths"].items():
        for method in operations:
            status = nobody.request(method, re.sub("{[a-z]+_id}", "1", path)).status_code
            assert path in open_paths or status == 401, (method, path, status)
    with station.database.reading() as session:
        kept = [(row.name, row.sha256) for row in session.query(TokenRow)]
    assert kept == [(role, hashlib.sha256(token.encode()).hexdigest()) for role, token in made.items()]
    admin = make_client(station, made["admin"])
    assert admin.delete("/v1/tokens/line").status_code == 204
    assert make_client(station, made["line"]).get("/v1/recipes").status_code == 401


def test_a_cookie_needs_its_csrf_token_and_ends_with_its_token(station: Station) -> None:
    made = tokens(station)
    browser = make_client(station)
    assert browser.post("/v1/session", data={"token": "wrong"}).status_code == 401
    signed = browser.post("/v1/session", data={"token": made["engineer"]})
    cookie = signed.headers["set-cookie"].lower()
    assert "httponly" in cookie
    assert "samesite=strict" in cookie
    assert browser.get("/v1/inspections").status_code == 200
    assert browser.post("/v1/recipes/1/activate").status_code == 403
    good = {auth.CSRF_HEADER: signed.json()["csrf"]}
    assert browser.post("/v1/recipes/1/activate", headers=good).status_code == 200
    assert browser.post("/v1/recipes/1/activate", headers=good | {"Origin": "http://evil.example"}).status_code == 403
    assert browser.post("/v1/recipes/1/activate", headers=good | {"Sec-Fetch-Site": "cross-site"}).status_code == 403
    value = browser.cookies[auth.COOKIE]
    for forged in (value[:-1] + ("0" if value[-1] != "0" else "1"), "1.99999999999.x", "", "a.b.c", "..", "é"):
        with make_client(station) as other:
            assert (
                other.get("/v1/inspections", headers={"Cookie": f"{auth.COOKIE}={forged}".encode()}).status_code == 401
            )
    make_client(station, made["admin"]).delete("/v1/tokens/engineer")
    assert browser.get("/v1/inspections").status_code == 401


def test_beyond_loopback_a_token_is_required(tmp_path: Path, bundle_file: Path) -> None:
    def call(*arguments: str) -> "subprocess.CompletedProcess[str]":
        script = (
            "import sys; from blemish.errors import BlemishError\nimport typer; from blemish.cli.serve import serve\n"
        )
        script += "try:\n    typer.run(serve)\nexcept BlemishError as e:\n    sys.exit(str(e))"
        command = [sys.executable, "-c", script, "--data", str(tmp_path / "s"), *arguments]
        return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)

    refused = call("--host", "0.0.0.0", "--bundle", str(bundle_file))
    assert refused.returncode != 0
    assert "--new-token" in refused.stderr
    token = call("--new-token", "anna:engineer").stdout.strip()
    with run_station(tmp_path / "s", bundle_file) as station:
        assert make_client(station).get("/v1/recipes").status_code == 401
        assert make_client(station, token).get("/v1/recipes").status_code == 200


def test_a_session_cookie_expires(station: Station, monkeypatch: pytest.MonkeyPatch) -> None:
    tokens(station)
    with station.database.reading() as session:
        row = session.get_one(TokenRow, 1)
        cookie = auth.make_cookie(station.secret, row)
        assert auth.cookie_user(session, station.secret, cookie) == auth.User("line", "line")
        assert auth.cookie_user(session, bytes(32), cookie) is None  # of another station
        monkeypatch.setattr(auth, "SESSION_S", -1)
        assert auth.cookie_user(session, station.secret, cookie) is None
