"""Start of a station: its folder, and the bundle it is given."""

from pathlib import Path

import pytest
from graphs import anomaly_bundle
from station_helpers import make_client, picture, run_station

from blemish.errors import OptionError
from blemish.inspection.manifest import Decision
from blemish.station.station import activate_bundle, open_station


def test_two_stations_do_not_share_a_folder(tmp_path: Path, bundle_file: Path) -> None:
    with run_station(tmp_path / "s", bundle_file) as station:
        second = open_station(station.settings)
        with pytest.raises(OptionError, match="another station"):
            second.__enter__()


def test_a_bundle_that_loses_the_golden_set_is_not_activated_at_the_start(tmp_path: Path, bundle_file: Path) -> None:
    blind = anomaly_bundle(tmp_path / "blind.blemish", decision=Decision(reject=5.0))
    with run_station(tmp_path / "s", bundle_file) as station:
        client = make_client(station)
        part = client.post("/v1/inspections", files={"image": picture(defect=True)}).json()["id"]
        client.put(f"/v1/golden/{part}", json={"label": "defect"})
        assert activate_bundle(station, blind) is None
        assert client.post("/v1/inspections", files={"image": picture(defect=True)}).json()["verdict"] == "reject"
