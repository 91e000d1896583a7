"""Tokens, roles, session cookies and CSRF tokens."""

import hashlib
import re
import subprocess
import sys
from pathlib import Path

import pytest
from fastapi.testclient import TestClient
from station_helpers import make_client, picture, run_station, send

from blemish.station import auth
from blemish.station.api import create_app
from blemish.station.models import TokenRow, UserRow
from blemish.station.repository import read_audit_log
from blemish.station.sign_in import WrongSignInError
from blemish.station.station import Station, check_access


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


def test_a_session_ends_by_expiry_and_by_signing_out(station: Station, monkeypatch: pytest.MonkeyPatch) -> None:
    made = tokens(station)
    browser = make_client(station)
    assert browser.post("/v1/session", data={"token": made["line"]}).status_code == 200
    assert browser.get("/v1/session").json() == {"name": "line", "role": "line"}
    taken = {"Cookie": f"{auth.COOKIE}={browser.cookies[auth.COOKIE]}"}
    assert make_client(station).get("/v1/recipes", headers=taken).status_code == 200
    assert browser.delete("/v1/session").status_code == 204
    assert make_client(station).get("/v1/recipes", headers=taken).status_code == 401  # a copy of it ends as well
    monkeypatch.setattr(auth, "SESSION_S", -1)
    with station.database.writing() as session:
        cookie = auth.open_session(session, session.get_one(TokenRow, 1))
    station.access.ensure_fresh()
    assert station.access.cookie_user(cookie) is None


def test_a_request_through_a_proxy_is_never_local(station: Station) -> None:
    client = make_client(station)
    assert client.get("/v1/recipes").status_code == 200
    for name in ("Forwarded", "X-Forwarded-For", "X-Forwarded-Proto", "Via", "X-Real-IP"):
        assert client.get("/v1/recipes", headers={name: "127.0.0.1"}).status_code == 401, name
        assert client.get("/", headers={name: "127.0.0.1"}).status_code in (303, 404)
    remote = TestClient(create_app(station), base_url="http://127.0.0.1", client=("10.0.0.7", 1))
    assert remote.get("/v1/recipes").status_code == 401


def test_without_tokens_everybody_is_let_in_where_that_is_asked_for(tmp_path: Path, bundle_file: Path) -> None:
    with run_station(tmp_path / "s", bundle_file, host="0.0.0.0", no_tokens=True) as station:
        check_access(station.settings, station.database)
        remote = TestClient(create_app(station), base_url="http://station", client=("10.0.0.7", 1))
        assert remote.get("/v1/recipes", headers={"Via": "proxy"}).status_code == 200
        tokens(station)
        assert remote.get("/v1/recipes").status_code == 401


def test_users_sign_in_with_a_password(station: Station) -> None:
    client = make_client(station)
    for name, role in (("anna", "admin"), ("otto", "operator")):
        made = client.post("/v1/users", json={"name": name, "role": role, "password": f"{name}-{name}-{name}"})
        assert made.status_code == (201 if name == "anna" else 401)
    assert client.post("/v1/session", data={"name": "anna", "password": "wrong-password"}).status_code == 401
    signed = client.post("/v1/session", data={"name": "anna", "password": "anna-anna-anna"})
    change = {auth.CSRF_HEADER: signed.json()["csrf"]}
    otto = {"name": "otto", "role": "operator", "password": "otto-otto-otto"}
    assert client.post("/v1/users", json=otto, headers=change).status_code == 201
    assert client.post("/v1/tokens", json={"name": "otto", "role": "line"}, headers=change).status_code == 422
    assert client.post("/v1/users", json=otto | {"name": "x", "password": "short"}, headers=change).status_code == 422
    other = make_client(station)
    signed = other.post("/v1/session", data={"name": "otto", "password": "otto-otto-otto"})
    own = {auth.CSRF_HEADER: signed.json()["csrf"]}
    assert other.put("/v1/users/anna/password", json={"password": "x" * 12}, headers=own).status_code == 403
    assert other.put("/v1/users/otto/password", json={"password": "x" * 12}, headers=own).status_code == 204
    assert other.get("/v1/session").status_code == 401  # the sessions of the old password have ended
    with station.database.reading() as session:
        stored = session.query(UserRow).all()
        assert all(row.password.startswith("$argon2id$") for row in stored)
        actions = [(row.created_by, row.action) for row in read_audit_log(session)]
    assert ("anna", "sign-in") in actions
    assert ("anna", "sign-in failed") in actions


def test_failed_sign_ins_are_delayed() -> None:
    time = [0.0]
    throttle = auth.SignInThrottle(lambda: time[0])
    for _ in range(throttle.FREE):
        throttle.failed("anna@a")
        throttle.check("anna@a")
    throttle.failed("anna@a")
    throttle.check("otto@a")
    with pytest.raises(auth.TooManyFailuresError, match="retry in 2 s"):
        throttle.check("anna@a")
    time[0] = 3.0
    throttle.check("anna@a")
    for _ in range(20):
        throttle.failed("anna@a")
    with pytest.raises(auth.TooManyFailuresError, match="retry in 300 s"):
        throttle.check("anna@a")
    throttle.succeeded("anna@a")
    throttle.check("anna@a")


def test_wrong_tokens_are_refused_for_a_while(station: Station) -> None:
    tokens(station)
    answers = [make_client(station).post("/v1/session", data={"token": "wrong"}) for _ in range(6)]
    assert [answer.status_code for answer in answers] == [401] * 5 + [429]
    assert int(answers[-1].headers["Retry-After"]) >= 1


def test_the_last_administrator_stays(station: Station) -> None:
    made = tokens(station)
    admin = make_client(station, made["admin"])
    refused = admin.delete("/v1/tokens/admin")
    assert (refused.status_code, "last administrator" in refused.json()["detail"]) == (409, True)
    admin.post("/v1/users", json={"name": "anna", "role": "admin", "password": "anna-anna-anna"})
    assert admin.delete("/v1/tokens/admin").status_code == 204
    assert admin.get("/v1/tokens").status_code == 401


def test_guesses_by_any_way_in_are_delayed_and_in_the_audit_log(station: Station) -> None:
    """The function that HTTP and the line sign in by; a valid token is not kept out by the guesses of others."""
    given = tokens(station)
    with station.database.writing() as session:
        auth.create_user(session, "lina", "line", "password of lina", "test")
    check = station.sign_ins.check
    for guess in range(5):
        with pytest.raises(WrongSignInError):
            check("line", "lina", f"guess {guess}", token=f"guess {guess}")
    with pytest.raises(auth.TooManyFailuresError):
        check("line", "lina", "password of lina", token="password of lina")
    assert check("line", "lina", given["line"], token=given["line"]).role == "line"
    check("line", "lina", "password of lina")  # its success ends the delay
    with station.database.reading() as session:
        actions = [row.action for row in read_audit_log(session, 500)]
    assert (actions.count("sign-in failed"), actions.count("sign-in")) == (5, 2)


def test_a_followed_role_ends_with_the_token_the_user_and_the_password(station: Station) -> None:
    given = tokens(station)
    with station.database.writing() as session:
        auth.create_user(session, "lina", "line", "password of lina", "test")
    by_password = station.sign_ins.check("line", "lina", "password of lina")
    by_token = station.sign_ins.check("line", "", "", token=given["engineer"])
    roles = [station.access.follow(row) for row in (by_password, by_token)]
    assert [role() for role in roles] == ["line", "engineer"]
    with station.database.writing() as session:
        row = session.get_one(UserRow, by_password.id)
        auth.change_password(session, row, "another password", "test")
        auth.revoke(session, session.get_one(TokenRow, by_token.id), "test")
    station.access.ensure_fresh()
    assert [role() for role in roles] == [None, None]
