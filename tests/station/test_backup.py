"""Backup and restoration of a record, while its station runs, with both databases."""

import base64
import os
import threading
import zipfile
from pathlib import Path

import cv2
import numpy as np
import pytest
from sqlalchemy import text
from station_helpers import make_client, picture, run_station, send
from typer.testing import CliRunner

from blemish.cli.record import record
from blemish.errors import OptionError
from blemish.station.backup import restore_backup, write_backup
from blemish.station.settings import Settings


def test_a_running_station_is_backed_up_and_restored(database_url: str, bundle_file: Path, tmp_path: Path) -> None:
    url = database_url.replace("+psycopg", "")
    mask = bytes(cv2.imencode(".png", np.full((64, 64), 255, np.uint8))[1])
    file = tmp_path / "backup.zip"
    with run_station(tmp_path / "a", bundle_file, db=url) as station:
        client, stop = make_client(station), threading.Event()
        parts = [send(client, picture(index % 2 == 1, index), part_id=f"p{index}").json() for index in range(4)]
        review = {"label": "scratch", "mask_png": base64.b64encode(mask).decode()}
        client.post(f"/v1/inspections/{parts[1]['id']}/reviews", json=review)
        made = client.post("/v1/tokens", json={"name": "root", "role": "admin"}).json()["token"]
        client = make_client(station, made)

        def go_on() -> None:
            number = 100
            while not stop.is_set():
                number += 1
                assert send(client, picture(seed=number)).status_code == 200

        sender = threading.Thread(target=go_on)
        sender.start()
        counts = write_backup(station.settings, file)
        stop.set()
        sender.join()
        before = client.get(f"/v1/inspections/{parts[1]['id']}").json()
        with pytest.raises(OptionError, match="not empty"):
            restore_backup(station.settings, file)
    assert counts["inspections"] >= 4
    other = tmp_path / "b"  # a backup of either database is restored into SQLite
    restore_backup(Settings(data=other), file)
    with run_station(other, None) as station:
        client = make_client(station, made)
        assert client.get("/v1/inspections").json()["total"] == counts["inspections"]
        assert client.get(f"/v1/inspections/{parts[1]['id']}").json() == before
        stored = client.get(f"/v1/inspections/{parts[1]['id']}/reviews/{before['reviews'][0]['id']}/mask")
        assert stored.content == mask
        assert client.get(f"/v1/inspections/{parts[0]['id']}/image").content == picture(seed=0)
        again = send(client, picture(seed=7)).json()
        assert again["verdict"] == "pass"
        assert again["id"] == counts["inspections"] + 1
        assert again["record"] != before["record"]  # the first record may go on, and has this id too


def test_a_backup_of_sqlite_is_restored_into_postgresql(bundle_file: Path, tmp_path: Path, postgres: str) -> None:
    import psycopg

    with psycopg.connect(f"{postgres}/postgres", autocommit=True) as connection:
        connection.execute("CREATE DATABASE restored")
    with run_station(tmp_path / "a", bundle_file) as station:
        first = send(make_client(station), picture(defect=True)).json()
        write_backup(station.settings, tmp_path / "b.zip")
    restore_backup(Settings(data=tmp_path / "b", db=f"{postgres}/restored"), tmp_path / "b.zip")
    with run_station(tmp_path / "b", None, db=f"{postgres}/restored") as station:
        client = make_client(station)
        assert client.get(f"/v1/inspections/{first['id']}").json() == first
        assert send(client, picture(seed=1)).json()["id"] == first["id"] + 1


def test_a_backup_that_lacks_rows_is_refused_and_missing_images_are_said(bundle_file: Path, tmp_path: Path) -> None:
    with run_station(tmp_path / "a", bundle_file) as station:
        client = make_client(station)
        for seed in range(5):
            send(client, picture(True, seed))
        for path in station.settings.images.rglob("*.png"):
            os.utime(path, (0, 0))  # by a machine without a clock, and ZIP begins in 1980
        write_backup(station.settings, tmp_path / "full.zip")
        write_backup(station.settings, tmp_path / "rows.zip", images=False)
    for table, kept in (("inspections", 2), ("regions", None)):
        cut = tmp_path / f"{table}.zip"
        with zipfile.ZipFile(tmp_path / "full.zip") as source, zipfile.ZipFile(cut, "w") as target:
            for name in source.namelist():
                lines = source.read(name).splitlines(keepends=True)
                if name != f"tables/{table}.jsonl":
                    target.writestr(name, b"".join(lines))
                elif kept is not None:
                    target.writestr(name, b"".join(lines[:kept]))
        with pytest.raises(OptionError, match=rf"has {kept or 0} of its 5 rows of {table}; nothing was restored"):
            restore_backup(Settings(data=tmp_path / "b"), cut)
        assert not (tmp_path / "b" / "images").exists()
    whole = CliRunner().invoke(record, ["restore", str(tmp_path / "full.zip"), "--data", str(tmp_path / "b")])
    assert whole.output == "5 inspections, 0 reviews restored\n"
    rows = CliRunner().invoke(record, ["restore", str(tmp_path / "rows.zip"), "--data", str(tmp_path / "c")])
    assert rows.output == (
        "5 inspections, 0 reviews restored\nthe images of 5 inspections are not in the backup, and not in the folder\n"
    )


def test_parts_of_a_backup_from_before_records_had_ids_get_one(bundle_file: Path, tmp_path: Path) -> None:
    with run_station(tmp_path / "a", bundle_file) as station:
        send(make_client(station), picture())
        with station.database.writing() as session:
            session.execute(text("UPDATE inspections SET record = NULL"))
        write_backup(station.settings, tmp_path / "b.zip")
    restore_backup(Settings(data=tmp_path / "b"), tmp_path / "b.zip")
    with run_station(tmp_path / "b", None) as station:
        assert make_client(station).get("/v1/inspections/1").json()["record"] == station.database.record


def test_the_command_verifies_a_record(bundle_file: Path, tmp_path: Path) -> None:
    with run_station(tmp_path / "a", bundle_file) as station:
        run = CliRunner().invoke(record, ["verify", "--data", str(tmp_path / "a")])
        assert (run.exit_code, run.stdout.startswith("sound: 3 rows")) == (0, True)
        with station.database.writing() as session:
            session.execute(text("UPDATE audit_log SET created_by = 'nobody' WHERE id = 2"))
        damaged = CliRunner().invoke(record, ["verify", "--data", str(tmp_path / "a")])
        assert isinstance(damaged.exception, OptionError)
        assert "row 2 of the audit log" in str(damaged.exception)
        with pytest.raises(OptionError, match="nothing was written"):
            write_backup(station.settings, tmp_path / "b.zip")
        assert not (tmp_path / "b.zip").exists()
    (tmp_path / "b.zip").write_bytes(b"no archive")
    with pytest.raises(OptionError, match="no sound backup"):
        restore_backup(Settings(data=tmp_path / "c"), tmp_path / "b.zip")
