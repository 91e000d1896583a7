"""The queue, batches, idempotency keys, and failures of engine or database."""

import asyncio
import struct
import threading
import time
import zlib
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager, suppress
from io import BytesIO
from pathlib import Path

import httpx
import pytest
from fastapi.testclient import TestClient
from station_helpers import make_client, picture, run_station, send, wait_until

from blemish.station import auth
from blemish.station.api import create_app
from blemish.station.schemas import InspectionOut
from blemish.station.station import Station
from blemish.station.tickets import NotAnsweredError, QueueFullError, Ticket, TicketResult


def test_a_key_gets_one_part_however_often_it_is_sent(client: TestClient) -> None:
    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(lambda _: send(client, picture(), key="k").json(), range(24)))
    assert all(answer == answers[0] for answer in answers)
    assert client.get("/v1/inspections").json()["total"] == 1
    assert send(client, picture(seed=9), key="k").status_code == 422


def test_a_full_queue_refuses_parts_and_loses_none(tmp_path: Path, bundle_file: Path) -> None:
    with run_station(tmp_path / "s", bundle_file, queue_depth=3, batch_size=1, runners=1) as station:
        client, gate = make_client(station), threading.Event()
        inspect = station.service._inspect
        station.service._inspect = lambda *given: (gate.wait(), inspect(*given))[1]  # type: ignore[method-assign]
        with ThreadPoolExecutor(3) as pool:
            waiting = [pool.submit(send, client, picture(seed=i), f"k{i}") for i in range(3)]
            wait_until(lambda: station.service.depth == 3)
            refused = [send(client, picture(), f"late{i}") for i in range(5)]
            gate.set()
            assert [answer.result().json()["verdict"] for answer in waiting] == ["pass"] * 3
        assert {answer.status_code for answer in refused} == {429}
        assert all(int(answer.headers["Retry-After"]) >= 1 for answer in refused)
        assert send(client, picture(), "late0").status_code == 200
        assert client.get("/v1/inspections").json()["total"] == 4
        assert station.service.depth == 0
        assert "blemish_refused_total 5.0" in client.get("/metrics").text


def test_parts_share_a_batch_and_wait_for_others_no_longer_than_stated(tmp_path: Path, bundle_file: Path) -> None:
    settings = {"batch_size": 4, "batch_wait_ms": 400.0, "runners": 1}
    with run_station(tmp_path / "s", bundle_file, **settings) as station:
        client, gate, sizes = make_client(station), threading.Event(), []
        inspect = station.service._inspect

        def gated(recipe_id: int, tickets: list[Ticket]) -> list[TicketResult]:
            sizes.append(len(tickets))
            gate.wait()
            return inspect(recipe_id, tickets)

        station.service._inspect = gated  # type: ignore[method-assign]
        with ThreadPoolExecutor(9) as pool:
            first = pool.submit(send, client, picture())
            wait_until(lambda: sizes == [1])
            others = [pool.submit(send, client, picture(seed=i)) for i in range(8)]
            wait_until(lambda: station.service.depth == 9 and station.service._receiving == 0)
            gate.set()
            assert {answer.result().status_code for answer in (first, *others)} == {200}
        assert sizes == [1, 4, 4]
        with station.service.receiving("other"):  # one is on its way in, and never comes
            begin = time.monotonic()
            assert send(client, picture()).json()["verdict"] == "pass"
            assert time.monotonic() - begin >= 0.4


def test_many_at_once_are_answered_each_with_its_own(client: TestClient) -> None:
    def ask(index: int) -> tuple[bool, str, str]:
        answer = send(client, picture(defect=index % 3 == 0, seed=index), part_id=f"p{index}").json()
        return index % 3 == 0, answer["verdict"], answer["part_id"]

    with ThreadPoolExecutor(16) as pool:
        found = list(pool.map(ask, range(60)))
    assert found == [(i % 3 == 0, "reject" if i % 3 == 0 else "pass", f"p{i}") for i in range(60)]
    assert client.get("/v1/inspections", params={"limit": 1}).json()["total"] == 60


def test_a_failing_engine_or_database_gives_no_verdict(client: TestClient, station: Station) -> None:
    def fail(*_: object, **__: object) -> None:
        raise RuntimeError("broken")

    service, database = station.service, station.database
    whole = service._inspector
    service._inspector = fail  # type: ignore[assignment,method-assign]
    answers = [send(client, picture(), key="a")]
    service._inspector = whole  # type: ignore[method-assign]
    writing = type(database).writing
    type(database).writing = fail  # type: ignore[assignment]
    answers.append(send(client, picture(), key="b"))
    type(database).writing = writing  # type: ignore[method-assign]
    assert [answer.status_code for answer in answers] == [503, 503]
    assert all("verdict" not in answer.json() for answer in answers)
    assert client.get("/v1/inspections").json()["total"] == 0
    assert [send(client, picture(), key=key).json()["verdict"] for key in "ab"] == ["pass", "pass"]
    assert station.service.depth == 0


def test_what_fails_after_the_network_is_not_the_images_fault(
    client: TestClient, station: Station, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise RuntimeError("broken")

    with monkeypatch.context() as broken:
        broken.setattr("blemish.inspection.pipeline.decode", fail)
        answer = send(client, picture(), key="a")
        no_image = send(client, b"no image")
    assert (answer.status_code, "verdict" in answer.json()) == (503, False)
    assert "broken" in answer.json()["detail"]
    assert no_image.status_code == 422
    assert "broken" in (station.service.failures.present("engine") or "")
    assert client.get("/v1/inspections").json()["total"] == 0
    assert send(client, picture(), key="a").json()["verdict"] == "pass"
    assert station.service.failures.present("engine") is None


def test_an_answer_that_takes_too_long_is_no_verdict_and_is_found_again(tmp_path: Path, bundle_file: Path) -> None:
    with run_station(tmp_path / "s", bundle_file, time_limit_s=0.3) as station:
        client, gate = make_client(station), threading.Event()
        inspect = station.service._inspect
        station.service._inspect = lambda *given: (gate.wait(), inspect(*given))[1]  # type: ignore[method-assign]
        late = send(client, picture(), key="k")
        assert (late.status_code, "verdict" in late.json()) == (503, False)
        gate.set()
        wait_until(lambda: station.service.depth == 0)
        assert send(client, picture(), key="k").json()["verdict"] == "pass"
        assert client.get("/v1/inspections").json()["total"] == 1


@contextmanager
def held_up(station: Station) -> Iterator[threading.Event]:
    """Nothing is inspected until the event is set, or the block ends."""
    gate, inspect = threading.Event(), station.service._inspect
    station.service._inspect = lambda *given: (gate.wait(), inspect(*given))[1]  # type: ignore[method-assign]
    try:
        yield gate
    finally:
        gate.set()


def test_a_key_is_for_all_that_was_sent_with_it_and_for_one_sender(station: Station) -> None:
    client = make_client(station)
    first = send(client, picture(), key="k", part_id="p1", lot="l1")
    assert send(client, picture(), key="k", part_id="p1", lot="l1").json() == first.json()
    for other in ({"part_id": "p2", "lot": "l1"}, {"part_id": "p1"}, {"part_id": "p1", "lot": "l1", "recipe": "1"}):
        answer = send(client, picture(), key="k", **other)
        assert (answer.status_code, "another part" in answer.json()["detail"]) == (422, True)
    assert station.service.depth == 0
    with station.database.writing() as session:
        made = {name: auth.create_token(session, name, "line", "test") for name in ("a", "b")}
    answers = {send(make_client(station, token), picture(), key="k").json()["id"] for token in made.values()}
    assert len(answers | {first.json()["id"]}) == 3


def test_a_part_whose_sender_has_gone_is_dropped(tmp_path: Path, bundle_file: Path) -> None:
    with run_station(tmp_path / "s", bundle_file, batch_size=1, runners=1) as station, held_up(station) as gate:
        service = station.service
        first = service.pool.submit(send, make_client(station), picture())
        wait_until(lambda: service._busy != {})

        def submit(key: str | None) -> "Future[InspectionOut]":
            service.reserve("line")
            return service.submit_image(BytesIO(picture(seed=1)), None, "api", key=key, sender="line")

        left, shared, follower = submit(None), submit("k"), submit("k")
        service.abandon(left)
        service.abandon(shared)  # another sender waits for the same answer
        assert shared is follower
        assert service.depth == 2
        gate.set()
        assert follower.result(20).verdict == "pass"
        assert first.result(20).status_code == 200
        with pytest.raises(NotAnsweredError, match="gone"):
            left.result(20)
        assert make_client(station).get("/v1/inspections").json()["total"] == 2
        assert list(station.settings.incoming.iterdir()) == []


def test_a_closed_connection_drops_the_part(tmp_path: Path, bundle_file: Path) -> None:
    """Seen from the network: a client that leaves before its turn leaves no record."""
    with run_station(tmp_path / "s", bundle_file, batch_size=1, runners=1) as station, held_up(station):
        app = create_app(station)

        async def ask(leave_after_s: float) -> None:
            transport = httpx.ASGITransport(app)
            async with httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1") as client:
                with suppress(TimeoutError):
                    async with asyncio.timeout(leave_after_s):
                        await client.post("/v1/inspections", files={"image": picture()})

        async def both() -> None:
            first = asyncio.create_task(ask(1.5))
            while not station.service._busy:
                await asyncio.sleep(0.01)
            await ask(0.3)
            assert station.service.depth == 1
            await first

        asyncio.run(both())


def test_senders_share_the_queue(tmp_path: Path, bundle_file: Path) -> None:
    with run_station(tmp_path / "s", bundle_file, queue_depth=4) as station:
        service = station.service
        for _ in range(4):
            service.reserve("a")  # alone, it may fill the queue
        with pytest.raises(QueueFullError, match="4 parts waiting"):
            service.reserve("b")
        service.release("a")
        with pytest.raises(QueueFullError, match="2 parts of a"):
            service.reserve("a")  # b is there now
        service.reserve("b")
        for sender in "aaab":
            service.release(sender)
        assert service.depth == 0


def test_a_picture_of_a_hundred_megapixels_is_refused_at_its_header(station: Station, client: TestClient) -> None:
    assert send(client, picture()).status_code == 200
    header = struct.pack(">IIBBBBB", 10_000, 10_000, 8, 0, 0, 0, 0)
    chunks = ((b"IHDR", header), (b"IDAT", zlib.compress(bytes(10_001) * 10_000)), (b"IEND", b""))
    content = b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data)) for kind, data in chunks
    )
    begin = time.monotonic()
    answer = send(client, content)
    assert (answer.status_code, "10000×10000 pixels" in answer.json()["detail"]) == (422, True)
    assert time.monotonic() - begin < 1
    assert station.service.depth == 0


def test_ids_with_control_characters_are_refused(client: TestClient) -> None:
    for text in ("p\u202e1", "p\x07", "p\u200b1", "p\n1"):
        for field in ("part_id", "lot"):
            answer = send(client, picture(), **{field: text})
            assert (answer.status_code, "control characters" in answer.json()["detail"]) == (422, True)
    assert send(client, picture(), part_id="缺陷 é-1").status_code == 200


def test_a_locked_table_stops_neither_health_nor_the_time_limit(
    tmp_path: Path, bundle_file: Path, postgres: str
) -> None:
    import psycopg

    with psycopg.connect(f"{postgres}/postgres", autocommit=True) as connection:
        connection.execute("CREATE DATABASE locked")
    url = f"{postgres}/locked"
    with run_station(tmp_path / "s", bundle_file, db=url, time_limit_s=2.0) as station:
        client = make_client(station)
        assert send(client, picture(), key="a").status_code == 200
        with psycopg.connect(url) as other, ThreadPoolExecutor(8) as pool:
            other.execute("LOCK TABLE inspections, recipes, tokens IN ACCESS EXCLUSIVE MODE")
            begin = time.monotonic()
            waiting = [pool.submit(send, client, picture(), f"k{index}") for index in range(4)]
            waiting += [pool.submit(client.get, "/v1/inspections") for _ in range(4)]
            assert client.get("/healthz").status_code == 200
            assert time.monotonic() - begin < 0.5
            assert {answer.result().status_code for answer in waiting} == {503}
            assert time.monotonic() - begin < 6
            other.rollback()
        assert send(client, picture(), key="k0").status_code == 200
