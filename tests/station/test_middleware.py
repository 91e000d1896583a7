"""Limits of bodies and time, foreign hosts and origins."""

import asyncio
import socket
import threading
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import httpx
import pytest
import uvicorn
from fastapi.testclient import TestClient
from starlette.types import Message
from station_helpers import HTTP, ServerMaker, free_port, make_client, picture, run_station, wait_until

from blemish.station import auth, http_protocol
from blemish.station.api import create_app
from blemish.station.station import Station


def test_a_body_that_does_not_arrive_is_refused_in_time(tmp_path: Path, bundle_file: Path) -> None:
    async def trickle() -> AsyncIterator[bytes]:
        yield b"--x\r\n"
        await asyncio.sleep(60)

    async def ask(station: Station) -> httpx.Response:
        transport = httpx.ASGITransport(create_app(station))
        async with httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1") as client:
            kind = {"Content-Type": "multipart/form-data; boundary=x"}
            return await client.post("/v1/inspections", content=trickle(), headers=kind)

    with run_station(tmp_path / "s", bundle_file, time_limit_s=0.3) as station:
        assert asyncio.run(ask(station)).status_code == 408
        assert station.service.depth == 0
        assert make_client(station).get("/readyz").status_code == 200


def test_on_loopback_foreign_origins_and_hosts_are_refused(client: TestClient) -> None:
    content = {"files": {"image": ("x.png", picture())}}
    assert client.post("/v1/inspections", **content, headers={"Origin": "http://evil.example"}).status_code == 403
    for name in ("evil.example", "127.evil.example", "127.0.0.1.evil.example"):
        assert client.get("/v1/inspections", headers={"Host": name}).status_code == 421
    assert client.post("/v1/inspections", **content, headers={"Origin": "http://127.0.0.1"}).status_code == 200
    headers = client.get("/healthz").headers
    assert headers["X-Content-Type-Options"] == "nosniff"
    assert "frame-ancestors 'none'" in headers["Content-Security-Policy"]


def test_a_body_of_a_gigabyte_is_refused_early(tmp_path: Path, serve: ServerMaker) -> None:
    server = serve("s", "--max-image-mib", "1")

    def pump(head: bytes, chunked: bool) -> tuple[bytes, int]:
        """Send up to 1 GiB, until an answer comes; the answer's first line, and how much was sent."""
        block, sent = bytes(2**18), 0
        with socket.create_connection(("127.0.0.1", server.port), timeout=30) as connection:
            connection.sendall(b"POST /v1/inspections HTTP/1.1\r\nHost: 127.0.0.1\r\n" + head + b"\r\n")
            answer = b""
            connection.setblocking(False)
            while sent < 2**30 and not answer:
                try:
                    answer = connection.recv(4096)
                    break
                except BlockingIOError:
                    pass
                except ConnectionError:
                    break
                connection.settimeout(10)
                try:
                    connection.sendall(b"40000\r\n" + block + b"\r\n" if chunked else block)
                except ConnectionError:
                    break
                sent += len(block)
                connection.setblocking(False)
        return answer.partition(b"\r\n")[0], sent

    kind = b"Content-Type: multipart/form-data; boundary=x\r\n"
    for head, chunked in ((b"Content-Length: 1073741824\r\n", False), (b"Transfer-Encoding: chunked\r\n", True)):
        answer, sent = pump(kind + head, chunked)
        assert sent < 2**26
        assert b" 4" in answer or not answer  # the connection may be closed before the answer is read
        assert HTTP.get(f"{server.url}/readyz").status_code == 200
    big = HTTP.post(f"{server.url}/v1/inspections", files={"image": bytes(3 * 2**20)})
    assert big.status_code == 413


def test_a_stranger_sends_no_body(station: Station) -> None:
    """60 MB of JSON without a token held the event loop for seconds."""
    read = []

    def pump() -> Iterator[bytes]:
        for _ in range(60):
            read.append(1)
            yield b" " * 2**20

    client = make_client(station)
    with station.database.writing() as session:
        token = auth.create_token(session, "anna", "engineer", "test")
    for path in ("/v1/recipes", "/v1/inspections", "/v1/bundles", "/v1/nowhere"):
        read.clear()
        answer = client.post(path, content=pump(), headers={"Content-Type": "application/json"})
        assert (answer.status_code, "Bearer" in answer.headers["WWW-Authenticate"]) == (401, True)
    known = make_client(station, token)
    too_large = known.post("/v1/recipes", content=b" " * (2**20 + 1), headers={"Content-Type": "application/json"})
    assert too_large.status_code == 413
    assert known.post("/v1/recipes", json={"name": "x"}).status_code == 422


def test_a_stranger_is_answered_before_the_body(station: Station) -> None:
    async def never() -> Message:
        raise AssertionError("the body was read")

    sent: list[Message] = []

    async def send(message: Message) -> None:
        sent.append(message)

    with station.database.writing() as session:
        auth.create_token(session, "anna", "engineer", "test")
    headers = [(b"host", b"127.0.0.1"), (b"content-type", b"application/json"), (b"content-length", b"1000")]
    scope = {"type": "http", "method": "POST", "path": "/v1/recipes", "headers": headers, "query_string": b"",
             "client": ("127.0.0.1", 1), "scheme": "http", "server": ("127.0.0.1", 80), "http_version": "1.1",
             "root_path": "", "raw_path": b"/v1/recipes"}  # fmt: skip
    asyncio.run(create_app(station)(scope, never, send))
    assert sent[0]["status"] == 401


def test_headers_that_do_not_arrive_end_the_connection(station: Station, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http_protocol, "HEADER_S", 0.3)
    port = free_port()
    config = uvicorn.Config(
        create_app(station), port=port, http=http_protocol.TimedHttpProtocol, log_config=None, lifespan="off"
    )
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run)
    thread.start()
    try:
        wait_until(lambda: server.started)
        request = b"GET /healthz HTTP/1.1\r\nHost: 127.0.0.1\r\n"
        for begin in (b"", request, request + b"\r\n"):
            with socket.create_connection(("127.0.0.1", port), timeout=5) as connection:
                connection.sendall(begin)
                time.sleep(0.1)
                if begin.endswith(b"\r\n\r\n"):
                    assert b"200 OK" in connection.recv(4096)
                    connection.sendall(request)  # the next request never ends
                while connection.recv(4096):
                    pass
        assert HTTP.get(f"http://127.0.0.1:{port}/healthz").status_code == 200
    finally:
        server.should_exit = True
        thread.join(10)
