"""Two recipes compared value by value; candidates of the golden set; a list of parts on paper."""

from pathlib import Path

import pytest
from fastapi.testclient import TestClient
from graphs import anomaly_bundle
from station_helpers import make_client, picture, run_station

from blemish.imaging.roi import Roi
from blemish.inspection.manifest import Decision
from blemish.station.golden_set import add_golden, count_candidates, list_candidates
from blemish.station.models import InspectionRow, RecipeRow
from blemish.station.recipe_difference import compare_recipes
from blemish.station.recipes import revise
from blemish.station.routes import lists
from blemish.station.station import Station


def test_differences_come_first_and_name_each_rule_zone_and_threshold(station: Station) -> None:
    zone = [(0.0, 0.0), (9.0, 0.0), (9.0, 9.0)]
    decision = Decision(
        review=0.5, reject=0.7, map_low=0.4, map_high=0.5, rules=["reject if count > 3"], zones={"clamp": zone},
        class_thresholds={"defect": 0.8},
    )  # fmt: skip
    with station.database.writing() as session:
        first = session.get_one(RecipeRow, 1)
        roi = Roi(image_height=64, image_width=64, ignore=[zone])
        second = revise(session, first, decision, roi, "anna", "the clamp is no defect")
        found = {str(one.name): one for one in compare_recipes(first, second)}
    differing = [name for name, one in found.items() if not one.same]
    assert list(found)[: len(differing)] == differing
    assert {
        "recipe", "reason", "reject threshold", "threshold of defect", "zone clamp",
        "rule: reject if count > 3", "inspected area",
    } <= set(differing)  # fmt: skip
    assert (found["reject threshold"].first, found["reject threshold"].second) == ("0.6", "0.7")
    assert found["threshold of defect"].first == ""
    assert found["reason"].second == "the clamp is no defect"
    assert found["method"].same


def test_reviewed_parts_are_offered_for_the_golden_set(station: Station, client: TestClient) -> None:
    for seed, label in enumerate(("good", "scratch", None, "good", "dent")):
        client.post("/v1/inspections", files={"image": picture(seed=seed)})
        if label is not None:
            client.post(f"/v1/inspections/{seed + 1}/reviews", json={"label": label})
    with station.database.writing() as session:
        assert [row.id for row in list_candidates(session)] == [2, 5, 1, 4]
        add_golden(session, session.get_one(InspectionRow, 5), "dent", "anna")
        assert [row.id for row in list_candidates(session)] == [2, 1, 4]
        assert count_candidates(session) == 3


@pytest.mark.parametrize(("language", "title"), [("en", "List of parts"), ("zh", "工件清单")])
def test_a_list_of_parts_is_printed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, language: str, title: str) -> None:
    monkeypatch.setattr(lists, "html_to_pdf_elsewhere", str.encode)  # the page itself; PDFs have a test of their own
    with run_station(tmp_path / "s", anomaly_bundle(tmp_path / "b.blemish")) as station:
        client = make_client(station)
        for seed in range(3):
            fields = {"part_id": f"plate<{seed}>", "lot": "批次7"}
            client.post("/v1/inspections", files={"image": picture(defect=seed == 1, seed=seed)}, data=fields)
        query = {"verdict": "pass", "part_contains": "PLATE", "language": language}
        answer = client.get("/v1/inspections.pdf", params=query)
    assert answer.status_code == 200
    assert answer.headers["content-type"] == "application/pdf"
    text = answer.content.decode()
    assert f"<title>station · {title}</title>" in text
    assert "plate&lt;0&gt;" in text
    assert "plate&lt;1&gt;" not in text  # rejected
    assert text.count("批次7") == 2
