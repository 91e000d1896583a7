"""The queue, batches, idempotency keys, and failures of engine or database."""

import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from fastapi.testclient import TestClient
from station_helpers import make_client, picture, run_station, send, wait_until

from blemish.station.station import Station
from blemish.station.tickets import Ticket, TicketResult


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
        station.service.reserve()  # one is on its way in, and never comes
        begin = time.monotonic()
        assert send(client, picture()).json()["verdict"] == "pass"
        assert time.monotonic() - begin >= 0.4
        station.service.release()


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

    inspectors, database = station.service.inspectors, station.database
    whole = inspectors.opened
    inspectors.opened = fail  # type: ignore[method-assign]
    answers = [send(client, picture(), key="a")]
    inspectors.opened = whole  # type: ignore[method-assign]
    writing = type(database).writing
    type(database).writing = fail  # type: ignore[assignment]
    answers.append(send(client, picture(), key="b"))
    type(database).writing = writing  # type: ignore[method-assign]
    assert [answer.status_code for answer in answers] == [503, 503]
    assert all("verdict" not in answer.json() for answer in answers)
    assert client.get("/v1/inspections").json()["total"] == 0
    assert [send(client, picture(), key=key).json()["verdict"] for key in "ab"] == ["pass", "pass"]
    assert station.service.depth == 0


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
