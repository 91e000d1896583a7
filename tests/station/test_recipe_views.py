"""A recipe of two views: one sheet, one verdict, one record; a missing view is no pass; the line takes both."""

import cv2
import numpy as np
import pytest
from graphs import anomaly_bundle
from station_helpers import BAD_GREY, GOOD_GREY, make_client, run_station, send

from blemish.errors import DataError, OptionError
from blemish.imaging.view_sheet import compose_sheet, read_layout
from blemish.inspection.manifest import Decision
from blemish.station.cameras.settings import CameraSettings, parse_settings
from blemish.station.line.cameras import LineCameras, split_name
from blemish.station.models import RecipeRow
from blemish.station.recipe_difference import compare_recipes
from blemish.station.recipe_views import RecipeViews
from blemish.station.recipes import recipe_cameras, revise, view_decisions
from blemish.station.source_states import SourceStates
from blemish.station.thresholds import load_scored_parts
from blemish.station.tickets import NotAnsweredError

SIDE = Decision(review=0.9, reject=0.99, map_low=0.4, map_high=0.5)


def part(defect=False, side=64, seed=0):
    image = np.full((side, 64, 1), GOOD_GREY, np.uint8)
    image[0, :8, 0] = np.random.default_rng(seed).integers(0, GOOD_GREY, 8)
    if defect:
        image[20:30, 20:40] = BAD_GREY
    return image


@pytest.fixture
def client(tmp_path, bundle_file):
    """With a recipe of the views top and side; a region in each of them is one too many."""
    with run_station(tmp_path / "station", bundle_file) as station:
        client = make_client(station)
        other = anomaly_bundle(tmp_path / "other.blemish", SIDE)
        taken = client.post("/v1/bundles", files={"bundle": other.read_bytes()}).json()
        first = client.get("/v1/recipes").json()[0]["bundle"]
        views = {"first": "top", "others": {"side": {"bundle": taken["sha256"]}}, "rules": ["reject if count >= 2"]}
        cameras = {"top": {"exposure_us": 500.0}}
        given = {"name": "both", "bundle": first, "views": views, "cameras": cameras}
        made = client.post("/v1/recipes", json=given)
        assert made.status_code == 201, made.text
        assert client.post(f"/v1/recipes/{made.json()['id']}/activate").status_code == 200
        again = client.get(f"/v1/recipes/{made.json()['id']}").json()
        assert again["views"]["others"]["side"]["bundle"] == taken["sha256"]
        assert again["cameras"]["top"]["exposure_us"] == 500.0
        client.station, client.first, client.made = station, first, made.json()
        yield client


def test_one_sheet_is_one_part(client):
    cases = [
        ({"top": part(), "side": part(seed=1)}, "pass"),
        ({"top": part(True), "side": part(seed=1)}, "reject"),
        ({"top": part(), "side": part(True, seed=1)}, "pass"),  # the other bundle rejects brighter ones only
        ({"top": part(), "side": None}, "review"),
        ({"top": None, "side": part(seed=1)}, "review"),
    ]
    for number, (views, verdict) in enumerate(cases):
        answer = send(client, compose_sheet(views), part_id=f"p{number}").json()
        assert answer["verdict"] == verdict, number
        assert client.get("/v1/inspections", params={"part_id": f"p{number}"}).json()["total"] == 1
        if any(view is None for view in views.values()):
            assert "missing" in str(answer["reasons"])
            assert answer["label"] != "good"
    rejected = client.get("/v1/inspections", params={"part_id": "p1"}).json()["items"][0]
    assert rejected["size"] == [64, 128]
    picture = client.get(f"/v1/inspections/{rejected['id']}/heatmap")
    assert picture.status_code == 200


def test_rules_see_the_regions_of_all_views(client):
    two = part(True, seed=1)
    two[45:55, 5:15] = BAD_GREY
    answer = send(client, compose_sheet({"top": part(), "side": two}), part_id="two").json()
    assert answer["verdict"] == "reject"  # the view alone would pass
    assert [reason["rule"] for reason in answer["reasons"]] == ["reject if count >= 2"]
    boxes = sorted(region["box"] for region in answer["regions"])
    assert boxes == [[69, 45, 79, 55], [84, 20, 104, 30]]  # on the sheet, beside the view of 64 px


def test_what_is_no_sheet_of_these_views(client):
    plain = bytes(cv2.imencode(".png", part()[..., 0])[1])
    strange = compose_sheet({"top": part(), "back": part(seed=1)})
    for content, message in ((plain, "takes the views top, side"), (strange, "the recipe takes top, side")):
        answer = send(client, content)
        assert answer.status_code == 422, answer.text
        assert message in answer.text
    assert client.get("/v1/inspections").json()["total"] == 0


def test_a_recipe_of_views_is_checked(client):
    sha = client.made["views"]["others"]["side"]["bundle"]

    def refused(views, cameras=None):
        given = {"name": "x", "bundle": client.first, "views": views, "cameras": cameras}
        answer = client.post("/v1/recipes", json=given)
        assert answer.status_code == 422
        return answer.text

    assert "given twice" in refused({"first": "side", "others": {"side": {"bundle": sha}}})
    assert "is not here" in refused({"first": "top", "others": {"side": {"bundle": "0" * 64}}})
    assert "crack" in refused({"first": "top", "others": {"side": {"bundle": sha}}, "rules": ["reject if crack.count"]})
    assert "no view of the recipe" in refused({"first": "a", "others": {"b": {"bundle": sha}}}, {"c": {}})


def test_another_version_of_a_recipe_of_views(client):
    """Thresholds of its views are followed; parts with one score of several bundles are never counted by them."""
    for number, views in enumerate(({"top": part(), "side": part(seed=1)}, {"top": part(True), "side": part(seed=1)})):
        send(client, compose_sheet(views), part_id=f"p{number}")
    with client.station.database.writing() as session:
        both, plain = session.get_one(RecipeRow, client.made["id"]), session.get_one(RecipeRow, 1)
        assert load_scored_parts(session, both) == load_scored_parts(session, plain) == []
        decisions = view_decisions(session, both)
        assert (decisions["top"].reject, decisions["side"].reject) == (0.6, 0.99)
        assert list(view_decisions(session, plain)) == [""]
        views = RecipeViews.model_validate(both.views)
        strict = views.others["side"].model_copy(
            update={"decision": decisions["side"].model_copy(update={"reject": 0.95})}
        )
        views = views.model_copy(update={"others": {"side": strict}, "rules": []})
        cameras = {"side": parse_settings({"gain_db": 3.0, "roi": "0, 8, 64, 48", "trigger": ""})}
        new = revise(session, both, decisions["top"], None, "anna", "stricter", views=views, cameras=cameras)
        assert view_decisions(session, new)["side"].reject == 0.95
        assert recipe_cameras(new) == {"side": CameraSettings(gain_db=3.0, roi=(0, 8, 64, 48))}
        differing = {str(one.name) for one in compare_recipes(both, new) if not one.same}
    assert {
        "decision of view side", "rule over views: reject if count >= 2", "camera top: exposure_us",
        "camera side: gain_db",
    } <= differing  # fmt: skip
    for fields, message in (
        ({"exposure_us": -1}, "exposure_us"),
        ({"roi": "1, 2"}, "roi"),
        ({"roi": "a,1,1,1"}, "roi"),
    ):
        with pytest.raises(DataError, match=message):
            parse_settings(fields)


def video(path, level, number=3):
    out = cv2.VideoWriter(str(path), cv2.VideoWriter_fourcc(*"FFV1"), 10, (64, 48))
    for _ in range(number):
        out.write(np.full((48, 64, 3), level, np.uint8))
    out.release()
    return path


def test_the_cameras_of_a_line(tmp_path):
    texts = [f"top={video(tmp_path / 'a.avi', 60)}", f"side={video(tmp_path / 'b.avi', 90)}"]
    states = SourceStates()
    cameras = LineCameras(texts, tmp_path, states)
    assert not cameras.works
    sheet = cameras.take(["top", "side"], None)
    (tmp_path / "part.png").write_bytes(sheet.getvalue())
    assert [place.name for place in read_layout(tmp_path / "part.png").places] == ["top", "side"]
    assert cameras.works
    assert [state.state for state in states.states()] == ["ok", "ok"]
    lost = cameras.take(["top", "side"], {"side": CameraSettings(exposure_us=10)})  # which a video cannot have
    (tmp_path / "part.png").write_bytes(lost.getvalue())
    assert read_layout(tmp_path / "part.png").missing == ("side",)
    assert not cameras.works
    with pytest.raises(NotAnsweredError, match="no camera for the view 'back'"):
        cameras.take(["top", "back"], None)
    cameras.close()
    one = LineCameras([str(tmp_path / "a.avi")], tmp_path, states)
    (tmp_path / "part.png").write_bytes(one.take([""], None).getvalue())
    assert read_layout(tmp_path / "part.png") is None
    one.close()


def test_faults_of_a_camera_are_metrics(tmp_path, bundle_file):
    texts = [f"top={video(tmp_path / 'a.avi', 60)}"]
    with run_station(tmp_path / "station", bundle_file, line_cameras=texts) as station:
        station.cameras.live("top")
        text = make_client(station).get("/metrics").text
    assert 'blemish_camera_events{camera="top",event="frames"} 1.0' in text
    assert 'blemish_camera_events{camera="top",event="lost"} 0.0' in text


def test_names_of_cameras(tmp_path):
    assert split_name("top=aravis:Fake-1") == ("top", "aravis:Fake-1")
    assert split_name("aravis:Fake-1?packet_size=9000") == ("", "aravis:Fake-1?packet_size=9000")
    assert split_name("rtsp://host/x?a=b") == ("", "rtsp://host/x?a=b")
    for texts in (["top=0", "top=1"], ["0", "side=1"], ["0", "1"]):
        with pytest.raises(OptionError, match="another name"):
            LineCameras(texts, tmp_path, SourceStates())
