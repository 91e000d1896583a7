"""Recorded inspections repeated by `blemish replay`."""

from pathlib import Path

import numpy as np
from station_helpers import make_client, picture, run_station, wait_until
from typer.testing import CliRunner

from blemish.imaging.read import encode


def test_replay_compares_verdict_score_measurements_mask_and_reasons(tmp_path: Path, bundle_file: Path) -> None:
    import typer

    from blemish.cli.replay import replay

    app = typer.Typer()
    app.command()(replay)
    with run_station(tmp_path / "s", bundle_file) as station:
        client = make_client(station)
        defects = (True, False, True, True, True)
        ids = [client.post("/v1/inspections", files={"image": picture(defect=d)}).json()["id"] for d in defects]
        with station.database.writing() as session:
            from blemish.station.models import InspectionRow

            session.get_one(InspectionRow, ids[1]).score = 0.9
            region = session.get_one(InspectionRow, ids[2]).regions[0]
            region.measurements = {**region.measurements, "length_px": 999.0}
            region = session.get_one(InspectionRow, ids[3]).regions[0]
            region.mask = encode(np.eye(region.y1 - region.y0, region.x1 - region.x0, dtype=bool), ".png")
            session.get_one(InspectionRow, ids[4]).reasons = [
                {"kind": "rule", "verdict": "reject", "rule": "another rule"}
            ]
            kept = station.settings.images / str(session.get_one(InspectionRow, ids[0]).image_path)
    run = CliRunner().invoke
    same, other, *altered = (run(app, [str(key), "--data", str(tmp_path / "s")]) for key in ids)
    assert (same.exit_code, "is the same" in same.output) == (0, True)
    assert (other.exit_code, "score was 0.9" in other.output) == (1, True)
    for found, said in zip(altered, ("length_px was 999", "its mask shares", "another rule"), strict=True):
        assert (found.exit_code, said in found.output) == (1, True), found.output
    kept.write_bytes(picture(seed=3))
    assert "not the one that was inspected" in str(run(app, [str(ids[0]), "--data", str(tmp_path / "s")]).exception)


def test_replay_of_a_part_without_a_result_has_none_again(tmp_path: Path, bundle_file: Path) -> None:
    from blemish.station.replay import replay

    with run_station(tmp_path / "s", bundle_file, watch=[tmp_path / "in"]) as station:
        (tmp_path / "in" / "broken.png").write_bytes(picture()[:60])
        wait_until(lambda: make_client(station).get("/v1/inspections").json()["total"] == 1)
        with station.database.reading() as session:
            from blemish.station.models import InspectionRow

            row = session.get_one(InspectionRow, 1)
            found = replay(row, station.service.inspectors.get(row.recipe), station.settings.images / row.image_path)
    assert (found.inspection, found.differences) == (None, [])
