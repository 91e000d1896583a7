"""Bundles that are signed, and stations that import no others."""

import shutil
from pathlib import Path

import pytest
from station_helpers import make_client, run_station
from typer.testing import CliRunner

from blemish.cli import build_app
from blemish.errors import BundleError, OptionError
from blemish.station.signing import make_keys
from blemish.station.station import activate_bundle


def test_a_station_with_a_key_imports_signed_bundles_only(tmp_path: Path, bundle_file: Path) -> None:
    bundle, key = tmp_path / "b.blemish", tmp_path / "key"
    shutil.copy(bundle_file, bundle)
    made = CliRunner().invoke(build_app(), ["sign", str(bundle), "--key", str(key), "--new-key"])
    assert made.exit_code == 0
    assert key.stat().st_mode & 0o77 == 0
    signature = (tmp_path / "b.blemish.sig").read_text()
    make_keys(tmp_path / "other", tmp_path / "other.pub")
    with run_station(tmp_path / "s", None, bundle_key=tmp_path / "key.pub") as station:
        client, content = make_client(station), bundle.read_bytes()
        for wrong in (None, "", "no base64!", "A" * 88):
            data = {} if wrong is None else {"signature": wrong}
            answer = client.post("/v1/bundles", files={"bundle": content}, data=data)
            assert (answer.status_code, "signature" in answer.json()["detail"]) == (422, True)
        with pytest.raises(BundleError, match="no signature"):
            activate_bundle(station, bundle_file)
        assert client.get("/v1/bundles").json() == []
        assert client.post("/v1/bundles", files={"bundle": content}, data={"signature": signature}).status_code == 200
        assert activate_bundle(station, bundle) is not None
    with (
        run_station(tmp_path / "t", None, bundle_key=tmp_path / "other.pub") as station,
        pytest.raises(BundleError, match="not valid"),
    ):
        activate_bundle(station, bundle)
    with pytest.raises(OptionError, match="never overwritten"):
        make_keys(key, tmp_path / "new.pub")
