"""Delivery of results to files, a webhook and a broker that are killed in between."""

import csv
import hashlib
import json
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from fastapi.testclient import TestClient
from station_helpers import Hook, free_port, inspected, make_client, picture, run_station, store, wait_until

from blemish.errors import OptionError
from blemish.station import sinks
from blemish.station.database import Database
from blemish.station.models import InspectionRow, OutboxRow
from blemish.station.redaction import redact
from blemish.station.schemas import inspection_out
from blemish.station.sink_keys import adopt_undelivered, count_unconfigured, sink_keys
from blemish.station.sinks import check_sink, count_pending
from blemish.station.video_source import check_camera

BROKER = """
import asyncio, sys
from amqtt.broker import Broker
async def main():
    broker = Broker({"listeners": {"default": {"type": "tcp", "bind": "127.0.0.1:" + sys.argv[1]}},
                     "plugins": {"amqtt.plugins.authentication.AnonymousAuthPlugin": {"allow_anonymous": True}}})
    await broker.start()
    print("ready", flush=True)
    await asyncio.Event().wait()
asyncio.run(main())
"""


def send_indexed(client: TestClient, index: int) -> int:
    files = {"image": ("x.png", picture(defect=index % 2 == 1, seed=index))}
    answer = client.post("/v1/inspections", files=files, data={"part_id": f"=p{index}"})
    return int(answer.json()["id"])


def test_files_get_every_result_once_and_in_order(tmp_path: Path, bundle_file: Path) -> None:
    lines, table = tmp_path / "out" / "r.jsonl", tmp_path / "r.csv"
    lines.parent.mkdir()
    lines.write_text('{"id": 0')  # half a line of an earlier crash
    with run_station(tmp_path / "s", bundle_file, sinks=[f"jsonl:{lines}", f"csv:{table}"]) as station:
        client = make_client(station)
        ids = [send_indexed(client, index) for index in range(8)]
        wait_until(lambda: not count_pending(station.database))
    found = [json.loads(line) for line in lines.read_text().splitlines()[1:]]
    assert [row["id"] for row in found] == ids
    assert [row["verdict"] for row in found] == ["pass", "reject"] * 4
    with table.open() as stream:
        rows = list(csv.DictReader(stream))
    assert [int(row["id"]) for row in rows] == ids
    assert rows[1]["part_id"] == "'=p1"  # no formula for a spreadsheet
    assert [int(rows[1][name]) for name in ("x0", "y0", "x1", "y1")] == [20, 20, 40, 30]


def test_a_file_of_results_keeps_its_columns_and_a_repeated_result_is_told_from_two(
    tmp_path: Path, bundle_file: Path
) -> None:
    """Files of an older version, of another one, half a header after a power cut, and a list of something else."""
    old = [name for name in sinks.COLUMNS if name != "record"]
    (tmp_path / "old.csv").write_text(",".join(old) + "\n" + "0" + "," * (len(old) - 1) + "\n")
    (tmp_path / "later.csv").write_text("created_at,mood,record,id\n")
    (tmp_path / "half.csv").write_text(sinks.csv_header()[:30])
    (tmp_path / "other.csv").write_text("part,supplier\n1,2\n")
    with run_station(tmp_path / "s", bundle_file) as station:
        send_indexed(make_client(station), 1)
        with station.database.reading() as session:
            result = inspection_out(session.get_one(InspectionRow, 1))
    found = {}
    for name in ("old", "later", "half", "new"):
        with sinks.open_sink(f"csv:{tmp_path / name}.csv") as deliver:
            deliver(result)
            deliver(result)
        with (tmp_path / f"{name}.csv").open() as stream:
            found[name] = list(csv.DictReader(stream, restkey="beyond"))
    assert [row["id"] for row in found["old"]] == ["0", "1", "1"]
    assert list(found["old"][1]) == old
    assert list(found["later"][0].values()) == [found["new"][0]["created_at"], "", result.record, "1"]
    assert found["half"] == found["new"]
    assert {(row["record"], row["id"]) for row in found["new"]} == {(result.record, "1")}
    assert result.record
    for name in ("old", "new"):  # every value under its name
        assert {row["verdict"] for row in found[name][1:]} == {"reject"}
        assert {row["perimeter_px"] for row in found[name][1:]} == {found["new"][0]["perimeter_px"]}
    with sinks.open_sink(f"csv:{tmp_path / 'other.csv'}") as deliver, pytest.raises(OptionError, match="not a file of"):
        deliver(result)
    assert (tmp_path / "other.csv").read_text() == "part,supplier\n1,2\n"


def test_a_webhook_that_is_down_or_fails_gets_everything_later(tmp_path: Path, bundle_file: Path) -> None:
    hook = Hook()
    with run_station(tmp_path / "s", bundle_file, sinks=[f"http://127.0.0.1:{hook.port}/in"]) as station:
        client = make_client(station)
        with hook.up():
            ids = [send_indexed(client, 0)]
            wait_until(lambda: len(hook.taken) == 1)
        ids += [send_indexed(client, index) for index in range(1, 4)]
        assert len(hook.taken) == 1
        assert list(count_pending(station.database).values()) == [3]
        hook.fails = 2
        with hook.up():
            wait_until(lambda: not count_pending(station.database))
    assert list(dict(hook.taken)) == ids
    assert hook.taken[0][1] == f"{station.database.record}-{ids[0]}"


def test_a_webhook_knows_parts_of_two_records_apart(tmp_path: Path, bundle_file: Path) -> None:
    """Both begin with the id 1; a receiver that drops known keys would lose the parts of the second."""
    hook = Hook()
    with hook.up():
        for name in ("one", "two"):
            with run_station(tmp_path / name, bundle_file, sinks=[f"http://127.0.0.1:{hook.port}/"]) as station:
                send_indexed(make_client(station), 0)
                wait_until(lambda: not count_pending(station.database))
    assert [number for number, _ in hook.taken] == [1, 1]
    assert len({key for _, key in hook.taken}) == 2


def test_results_outlive_the_station(tmp_path: Path, bundle_file: Path) -> None:
    hook = Hook()
    address = f"http://127.0.0.1:{hook.port}/"
    with run_station(tmp_path / "s", bundle_file, sinks=[address]) as station:
        ids = [send_indexed(make_client(station), index) for index in range(3)]
    with hook.up(), run_station(tmp_path / "s", None, sinks=[address]) as station:
        wait_until(lambda: not count_pending(station.database))
    assert [key for key, _ in hook.taken] == ids


@contextmanager
def broker(port: int) -> Iterator[None]:
    command = [sys.executable, "-c", BROKER, str(port)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
    assert process.stdout is not None
    try:
        assert process.stdout.readline().strip() == b"ready"
        yield
    finally:
        process.kill()
        process.wait()


@contextmanager
def subscriber(port: int) -> Iterator[list[int]]:
    from paho.mqtt.client import Client
    from paho.mqtt.enums import CallbackAPIVersion

    client, found, ready = Client(CallbackAPIVersion.VERSION2), [], threading.Event()  # type: ignore[var-annotated]
    client.on_message = lambda _c, _u, message: found.append(json.loads(message.payload)["id"])
    client.on_subscribe = lambda *_: ready.set()
    client.connect("127.0.0.1", port)
    client.loop_start()
    client.subscribe("line/results", qos=1)
    assert ready.wait(10)
    try:
        yield found
    finally:
        client.disconnect()
        client.loop_stop()


def test_a_broker_that_is_killed_gets_everything_later(tmp_path: Path, bundle_file: Path) -> None:
    pytest.importorskip("amqtt", reason="no MQTT broker: pip install amqtt")
    port = free_port()
    with run_station(tmp_path / "s", bundle_file, sinks=[f"mqtt://127.0.0.1:{port}/line/results"]) as station:
        client = make_client(station)
        with broker(port), subscriber(port) as first:
            ids = [send_indexed(client, index) for index in range(2)]
            wait_until(lambda: len(first) == 2)
            wait_until(lambda: not count_pending(station.database))
        ids += [send_indexed(client, index) for index in range(2, 5)]
        with broker(port), subscriber(port) as second:
            wait_until(lambda: not count_pending(station.database))
            wait_until(lambda: len(set(second)) == 3)
    assert first + list(dict.fromkeys(second)) == ids


def test_an_invalid_sink_or_camera_is_one_line(tmp_path: Path) -> None:
    for text in ("csv:", "nowhere", "mqtt://host", "http://", "ftp://host/x"):
        with pytest.raises(OptionError, match="invalid sink"):
            check_sink(text)
    for text in ("belt.avi", "rtsp:/host", ""):
        with pytest.raises(OptionError, match="no camera or video"):
            check_camera(text)
    text = tmp_path / "belt.avi"
    text.write_text("no video")
    with pytest.raises(OptionError, match="is no readable video"):
        check_camera(str(text))


def test_the_outbox_calls_a_sink_by_a_short_name_without_its_secrets() -> None:
    signed = "https://line:geheim@host/hook?signature=" + "x" * 500
    (key,) = sink_keys("s" * 64, [signed])
    assert len(key) <= 300
    assert "geheim" not in key
    assert sink_keys("s" * 64, [signed + "y"]) == [key]  # the same sink, by another secret
    assert sink_keys("s" * 64, [signed.replace("/hook", "/other")]) != [key]
    assert len({*sink_keys("s", [signed, signed + "y", "https://host/hook"])}) == 3  # two that only secrets tell apart


def test_what_waited_is_sent_after_a_new_password(tmp_path: Path, bundle_file: Path) -> None:
    hook = Hook()

    def address(user: str) -> str:
        return f"http://{user}@127.0.0.1:{hook.port}/r"

    with run_station(tmp_path / "s", bundle_file, sinks=[address("line:old")]) as station:
        ids = [send_indexed(make_client(station), index) for index in range(3)]
    with hook.up(), run_station(tmp_path / "s", bundle_file, sinks=[address("line:new")]) as station:
        ids.append(send_indexed(make_client(station), 3))
        wait_until(lambda: not count_pending(station.database))
    assert [key for key, _ in hook.taken] == ids


def test_keys_of_earlier_versions_are_adopted_where_they_match(
    database: Database, recipe_id: int, bundle_file: Path
) -> None:
    def old_key(text: str) -> str:
        return f"s/{redact(text)[:150]}#{hashlib.sha256(text.encode()).hexdigest()[:12]}"

    def waiting(*texts: str) -> list[tuple[str, list[int]]]:
        with database.writing() as session:
            adopt_undelivered(session, "s", texts)
            rows = session.query(OutboxRow).order_by(OutboxRow.id).all()
            return [(key, [row.inspection_id for row in rows if row.sink == key]) for key in sink_keys("s", texts)]

    found = inspected(bundle_file, 50)
    now_, before, other = "http://a:1@h/r?k=2", "http://a:0@h/r?k=1", "http://a:1@h/R?k=2"
    long, long_before = "http://a:1@h/" + "x" * 200, "http://a:0@h/" + "x" * 200
    ids = [
        store(database, recipe_id, found, sinks=[old_key(text)]) for text in (before, now_, other, long, long_before)
    ]
    both = store(database, recipe_id, found, sinks=[old_key(before), *sink_keys("s", [now_])])
    assert waiting(now_) == [(sink_keys("s", [now_])[0], [*ids[:2], both])]
    with database.reading() as session:
        assert count_unconfigured(session, "s", [now_]) == {
            "http://h/r?k=***": 1, "http://h/R?k=***": 1, f"http://h/{'x' * 141}": 2,
        }  # fmt: skip
        assert count_unconfigured(session, "other", [now_]) == {}
    assert waiting(long)[0][1] == [ids[3]]  # of two that are cut to the same name, the one with this very address


def test_results_that_wait_for_a_sink_that_is_not_given_are_said(tmp_path: Path, bundle_file: Path) -> None:
    away = f"http://line:geheim@127.0.0.1:{free_port()}/in"
    with run_station(tmp_path / "s", bundle_file, sinks=[away]) as station:
        send_indexed(make_client(station), 0)
    with run_station(tmp_path / "s", bundle_file, sinks=[f"jsonl:{tmp_path / 'r.jsonl'}"]) as station:
        name = redact(away)
        wait_until(lambda: name in [component.name for component in station.status.components()])
        found = next(component for component in station.status.components() if component.name == name)
        assert (found.kind, found.state, found.detail.values) == ("sink", "warning", {"number": 1})
        wait_until(lambda: [(row.kind, row.subject) for row in station.status.alarms] == [("sink", name)])
        assert f'{{sink="station/{name}"}} 1.0' in make_client(station).get("/metrics").text


def test_the_outbox_is_counted_and_shows_no_password(tmp_path: Path, bundle_file: Path) -> None:
    sink = f"mqtt://line:geheim@127.0.0.1:{free_port()}/results"
    with run_station(tmp_path / "s", bundle_file, sinks=[sink]) as station:
        client = make_client(station)
        shown = 'blemish_outbox_pending{sink="station/mqtt://' + sink.rpartition("@")[2] + '"} '
        assert shown + "0.0" in client.get("/metrics").text
        send_indexed(client, 0)
        assert shown + "1.0" in client.get("/metrics").text
        assert "geheim" not in client.get("/metrics").text


@pytest.mark.parametrize("status", [422, 500])
def test_a_result_that_its_sink_refuses_blocks_no_other(tmp_path: Path, bundle_file: Path, status: int) -> None:
    hook = Hook()
    hook.refuses = {"=p1": status}
    with hook.up(), run_station(tmp_path / "s", bundle_file, sinks=[f"http://127.0.0.1:{hook.port}/in"]) as station:
        client = make_client(station)
        ids = [send_indexed(client, index) for index in range(4)]
        wait_until(lambda: not count_pending(station.database))
        assert [key for key, _ in hook.taken] == [ids[0], *ids[2:]]
        dead = client.get("/v1/dead-letters").json()
        assert [(row["inspection_id"], row["error"].startswith(f"HTTP {status} ")) for row in dead] == [(ids[1], True)]
        assert (
            f'blemish_dead_letters{{sink="station/http://127.0.0.1:{hook.port}/in"}} 1.0' in client.get("/metrics").text
        )
        hook.refuses = {}
        assert client.post("/v1/dead-letters/retry").json() == {"number": 1}
        wait_until(lambda: len(hook.taken) == 4)
        assert client.get("/v1/dead-letters").json() == []


def test_a_sink_that_is_away_makes_no_dead_letters(tmp_path: Path, bundle_file: Path) -> None:
    sink = f"http://127.0.0.1:{free_port()}/in"
    with run_station(tmp_path / "s", bundle_file, sinks=[sink]) as station:
        for index in range(3):
            send_indexed(make_client(station), index)

        def attempts() -> list[int]:
            with station.database.reading() as session:
                return [row.attempts for row in session.query(OutboxRow).order_by(OutboxRow.id)]

        wait_until(lambda: attempts()[0] > sinks.PATIENCE + 2)
        assert list(count_pending(station.database).values()) == [3]


def test_the_outbox_forgets_what_was_delivered_long_ago(tmp_path: Path, bundle_file: Path) -> None:
    with run_station(tmp_path / "s", bundle_file, sinks=[f"jsonl:{tmp_path / 'r.jsonl'}"]) as station:
        send_indexed(make_client(station), 0)
        wait_until(lambda: not count_pending(station.database))
        for days, left in ((1.0, 1), (1e-9, 0)):
            with station.database.writing() as session:
                sinks.prune_outbox(session, days)
                assert session.query(OutboxRow).count() == left
