"""Start of a station: its folder, and the bundle it is given."""

import os
import time
from datetime import timedelta
from pathlib import Path

import pytest
from graphs import anomaly_bundle
from station_helpers import make_client, picture, run_station, send

from blemish.errors import OptionError
from blemish.inspection.manifest import Decision
from blemish.station.backup import restore_backup, write_backup
from blemish.station.data_folder import FILE
from blemish.station.database import Database
from blemish.station.models import LeaseRow, now
from blemish.station.settings import Settings
from blemish.station.station import activate_bundle, open_station
from blemish.station.station_lease import EXPIRY_S


def test_two_stations_do_not_share_a_folder(tmp_path: Path, bundle_file: Path) -> None:
    with run_station(tmp_path / "s", bundle_file) as station:
        second = open_station(station.settings)
        with pytest.raises(OptionError, match="another station"):
            second.__enter__()


def test_a_folder_is_not_used_with_another_record(tmp_path: Path, bundle_file: Path) -> None:
    own, other = (f"sqlite:///{tmp_path / name}" for name in ("plant.db", "plnat.db"))
    folder = tmp_path / "s"
    with run_station(folder, bundle_file, db=own) as station:
        client = make_client(station)
        parts = [send(client, picture(seed=seed)).json()["id"] for seed in range(3)]
        for path in station.settings.images.rglob("*.png"):
            os.utime(path, (time.time() - 2 * 86400,) * 2)  # older than what is set aside as an orphan
    with pytest.raises(OptionError, match="belongs to another record"), run_station(folder, None, db=other):
        pass
    with pytest.raises(OptionError, match="belongs to another record"):
        write_backup(Settings(data=folder, db=other), tmp_path / "b.zip")
    (folder / FILE).unlink()  # of before folders had one
    with pytest.raises(OptionError, match="not in the record"), run_station(folder, None, db=other):
        pass
    with run_station(folder, None, db=own) as station:
        client = make_client(station)
        assert [client.get(f"/v1/inspections/{part}/image").status_code for part in parts] == [200] * 3
        assert not station.settings.orphans.exists()
    assert (folder / FILE).exists()


def test_a_copy_of_a_record_takes_over_the_pictures_when_it_is_restored(tmp_path: Path, bundle_file: Path) -> None:
    with run_station(tmp_path / "s", bundle_file) as station:
        send(make_client(station), picture())
        write_backup(station.settings, tmp_path / "b.zip", images=False)
    (tmp_path / "s" / "station.db").unlink()
    with pytest.raises(OptionError, match="belongs to another record"), run_station(tmp_path / "s", None):
        pass
    restore_backup(Settings(data=tmp_path / "s"), tmp_path / "b.zip")
    with run_station(tmp_path / "s", None) as station:
        assert make_client(station).get("/v1/inspections/1/image").content == picture()
    with run_station(tmp_path / "t", bundle_file) as station:
        send(make_client(station), picture(seed=1))
    (tmp_path / "t" / "station.db").unlink()
    with pytest.raises(OptionError, match="not in the record"):  # the pictures of quite another one
        restore_backup(Settings(data=tmp_path / "t"), tmp_path / "b.zip")


def test_two_stations_of_one_record_do_not_share_a_name(
    database_url: str, database: Database, bundle_file: Path, tmp_path: Path
) -> None:
    shared: dict[str, object] = {"db": database_url.replace("+psycopg", ""), "station": "press"}

    def seen(seconds_ago: float) -> None:
        with database.writing() as session:
            session.get_one(LeaseRow, "press").seen_at = now() - timedelta(seconds=seconds_ago)

    with run_station(tmp_path / "a", bundle_file, **shared) as first:
        with (
            pytest.raises(OptionError, match="another station runs as 'press'"),
            run_station(tmp_path / "b", None, **shared),
        ):
            pass
        with run_station(tmp_path / "b", None, **shared | {"station": "mill"}):
            pass
    with run_station(tmp_path / "b", None, **shared):
        pass  # the first one was stopped
    seen(1)  # as if it had been killed
    with run_station(tmp_path / "b", None, **shared):
        pass
    with run_station(tmp_path / "a", None, **shared) as first:
        seen(EXPIRY_S + 1)  # as if it had been asleep
        with run_station(tmp_path / "b", None, **shared) as second:
            for station in (first, second):
                station.status._lease.renew()
            problems = [make_client(station).get("/v1/status").json()["problem"] for station in (first, second)]
            assert problems == [{"kind": "station", "name": ""}, None]


def test_a_bundle_that_loses_the_golden_set_is_not_activated_at_the_start(tmp_path: Path, bundle_file: Path) -> None:
    blind = anomaly_bundle(tmp_path / "blind.blemish", decision=Decision(reject=5.0))
    with run_station(tmp_path / "s", bundle_file) as station:
        client = make_client(station)
        part = client.post("/v1/inspections", files={"image": picture(defect=True)}).json()["id"]
        client.put(f"/v1/golden/{part}", json={"label": "defect"})
        assert activate_bundle(station, blind) is None
        assert client.post("/v1/inspections", files={"image": picture(defect=True)}).json()["verdict"] == "reject"


def test_a_known_bundle_that_is_not_activated_at_the_start_is_said(
    tmp_path: Path, bundle_file: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with run_station(tmp_path / "s", bundle_file) as station:
        caplog.clear()
        assert activate_bundle(station, bundle_file) is None
        assert caplog.messages == []  # it is the active one
        other = anomaly_bundle(tmp_path / "other.blemish", decision=Decision(reject=0.7))
        assert activate_bundle(station, other) is not None
        assert activate_bundle(station, bundle_file) is None
        (line,) = caplog.messages
        assert "v2 stays active" in line
        assert str(bundle_file) in line
