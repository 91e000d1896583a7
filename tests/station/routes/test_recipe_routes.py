"""Routes of bundles, recipes and decisions."""

import hashlib
import io
import json
import math
import zipfile
from pathlib import Path

import cv2
import httpx
import numpy as np
import onnx
import pytest
from fastapi.testclient import TestClient
from graphs import anomaly_bundle, make_bundle, model
from station_helpers import picture, put_decision, send, use

from blemish.inspection.manifest import Decision, SupportSet
from blemish.inspection.support_set import pack_vectors
from blemish.station.recipe_changes import StaleRecipeError
from blemish.station.station import Station


def test_recipes_change_over_by_id_and_decisions_make_versions(client: TestClient, tmp_path: Path) -> None:
    first = client.get("/v1/recipes").json()[0]
    assert (first["version"], first["active"]) == (1, True)
    other = anomaly_bundle(tmp_path / "other.blemish", Decision(review=0.9, reject=0.95))
    taken = client.post("/v1/bundles", files={"bundle": ("../x", other.read_bytes())}).json()
    assert taken["sha256"] == hashlib.sha256(other.read_bytes()).hexdigest()
    assert client.get(f"/v1/bundles/{taken['sha256']}/check").json()["sound"]
    second = client.post("/v1/recipes", json={"name": "lenient", "bundle": taken["sha256"]}).json()
    assert send(client, picture(defect=True), recipe="lenient").status_code == 422
    assert client.post(f"/v1/recipes/{second['id']}/activate").json()["active"]
    assert send(client, picture(defect=True)).json()["recipe"] == {"id": second["id"], "name": "lenient", "version": 1}
    assert send(client, picture(defect=True)).json()["verdict"] == "pass"
    assert send(client, picture(defect=True), recipe=first["name"]).json()["verdict"] == "reject"
    strict = {**client.get("/v1/decision").json(), "reject": 0.1, "review": None}
    third = put_decision(client, strict, comment="stricter").json()
    assert (third["name"], third["version"], third["active"]) == ("lenient", 2, True)
    assert send(client, picture()).json()["verdict"] == "reject"
    log = client.get("/v1/audit").json()
    assert [(e["action"], e["comment"]) for e in log[:2]] == [("activate", "stricter"), ("decision", "stricter")]
    assert log[1]["before"]["reject"] == 0.95
    wrong = put_decision(client, {"review": 2, "reject": 1})
    assert (wrong.status_code, "above" in wrong.json()["detail"]) == (422, True)


def test_a_change_of_the_decision_reaches_only_the_version_that_was_read(client: TestClient) -> None:
    def change(read: httpx.Response, **changes: object) -> httpx.Response:
        headers, decision = {"If-Match": read.headers["ETag"]}, read.json() | changes
        return client.put("/v1/decision", json={"decision": decision, "comment": "x"}, headers=headers)

    first = client.get("/v1/recipes").json()[0]
    anna = berta = client.get("/v1/decision")
    rule = "reject if defect.count >= 1"
    assert change(anna, rules=[rule]).json()["version"] == 2
    refused = change(berta, review=0.3)  # would undo the rule
    assert refused.status_code == 409
    assert f"made for {first['name']} v1, but {first['name']} v2 is active" in refused.json()["detail"]
    assert client.get("/v1/decision").json()["rules"] == [rule]
    read = client.get("/v1/decision")
    other = client.post("/v1/recipes", json={"name": "铸件", "bundle": first["bundle"]}).json()
    client.post(f"/v1/recipes/{other['id']}/activate")
    assert change(read, reject=0.35, review=0.25).status_code == 409  # of another product
    assert client.put("/v1/decision", json={"decision": read.json()}).status_code == 428
    assert [(r["name"], r["version"], r["active"]) for r in client.get("/v1/recipes").json()] == [
        ("铸件", 1, True), (first["name"], 2, False), (first["name"], 1, False),
    ]  # fmt: skip
    assert client.get("/v1/decision").json() == other["decision"]
    assert change(client.get("/v1/decision"), reject=0.7).json()["version"] == 2


def test_a_recipe_is_activated_only_instead_of_the_one_it_was_made_for(client: TestClient, station: Station) -> None:
    """Somebody else may activate another recipe while the golden set is inspected."""
    first = client.get("/v1/recipes").json()[0]
    other = client.post("/v1/recipes", json={"name": "other", "bundle": first["bundle"]}).json()
    title = f"{first['name']} v1"
    with pytest.raises(StaleRecipeError, match="is active now"):
        station.activate(other["id"], "anna", "x", instead_of="other v1")
    assert client.get("/v1/recipes").json()[-1]["active"]
    station.activate(other["id"], "anna", "x", instead_of=title)
    assert client.get("/v1/recipes").json()[0]["active"]


def test_classes_of_a_support_set_are_distinguished(client: TestClient, tmp_path: Path) -> None:
    mean = onnx.helper.make_node("ReduceMean", ["images"], ["embedding"], axes=[2, 3], keepdims=0)
    support = SupportSet(classes=[0, 1], weights=[1, 1], scale=1000.0)
    file = make_bundle(
        tmp_path / "examples.blemish", model([mean], {"embedding": ["n", 1]}), ["embedding"],
        Decision(reject=0.5), support=support, extra={"support.npy": pack_vectors(np.float32([[0.2], [0.8]]))},
    )  # fmt: skip
    assert use(client, file)["active"]
    bright = bytes(cv2.imencode(".png", np.full((64, 64), 220, np.uint8))[1])
    found = [send(client, content).json() for content in (picture(), bright)]
    assert [(part["verdict"], part["label"]) for part in found] == [("pass", "good"), ("reject", "defect")]


def test_a_bundle_that_needs_reference_images_is_refused(client: TestClient, tmp_path: Path) -> None:
    refused = use(client, anomaly_bundle(tmp_path / "t.blemish", template=True))
    assert "template" in str(refused["detail"])
    assert send(client, picture()).json()["verdict"] == "pass"


def test_a_recipe_that_loses_the_golden_set_needs_a_comment(client: TestClient) -> None:
    bad, good = (send(client, picture(defect=d)).json()["id"] for d in (True, False))
    for part, label in ((bad, "defect"), (good, "good")):
        assert client.put(f"/v1/golden/{part}", json={"label": label}).status_code == 200
    decision = client.get("/v1/decision").json()
    blind = {**decision, "review": None, "reject": 0.99}
    refused = put_decision(client, blind)
    assert refused.status_code == 409
    assert str(bad) in refused.json()["detail"]
    assert send(client, picture(defect=True)).json()["verdict"] == "reject"
    assert put_decision(client, {**decision, "reject": 0.7}).json()["active"]
    why = "trial without parts"
    assert put_decision(client, blind, comment=why).status_code == 409  # a note is no consent
    assert put_decision(client, blind, accept_losses=True).status_code == 409
    allowed = put_decision(client, blind, comment=why, accept_losses=True).json()
    assert allowed["active"]
    assert f"loses 1 of the golden set: {bad}" in client.get("/v1/audit").json()[0]["comment"]


def zipped_zeros() -> bytes:
    """A small file that unpacks to 50 MiB."""
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("graph.onnx", bytes(50 * 2**20))
    return stream.getvalue()


def seal(content: bytes) -> bytes:
    """A zip with the comment that a bundle ends with, so that its entries are looked at."""
    mark = b"blemish-sha256:"
    unsealed = content[:-2] + (len(mark) + 64).to_bytes(2, "little") + mark
    return unsealed + hashlib.sha256(unsealed).hexdigest().encode()


def test_bundles_are_verified_before_they_are_opened(client: TestClient, station: Station, bundle_file: Path) -> None:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("graph.onnx", bytes(50 * 2**20))
        archive.writestr("../../evil", "x")
    bomb = stream.getvalue()
    whole = bundle_file.read_bytes()
    altered = bytearray(whole)
    altered[len(whole) // 2] ^= 1
    for content in (bomb, seal(bomb), b"", whole[:-10], bytes(altered), picture()):
        assert client.post("/v1/bundles", files={"bundle": content}).status_code == 422
    assert "compressed" in client.post("/v1/bundles", files={"bundle": seal(zipped_zeros())}).json()["detail"]
    assert client.post("/v1/bundles", data={"bundle": "text"}).status_code == 422
    assert client.post("/v1/bundles", files={"bundle": whole}).status_code == 200
    assert len(client.get("/v1/bundles").json()) == 1
    kept = next(station.settings.bundles.iterdir())
    kept.write_bytes(bytes(altered))
    assert not client.get(f"/v1/bundles/{kept.stem}/check").json()["sound"]
    assert list(station.settings.incoming.iterdir()) == []


@pytest.mark.parametrize(
    ("wrong", "status"),
    [
        ({"decision": {"class_thresholds": {"c": 1}}}, 422),
        ({"decision": {"zones": {"z": [[math.nan, 0], [1, 1], [0, 1]]}}}, 422),
        ({"decision": {"rules": ["reject if"]}}, 422),
        ({"decision": {"rules": ["reject if area_px > 5"]}}, 422),  # without map_high there are no regions
        ({"decision": {"map_high": 0.5, "rules": ["reject if good.area_px > 5"]}}, 422),
        ({"scale": {"x": math.inf, "y": 1}}, 422),
        ({"roi": {"image_height": 64, "image_width": 64, "polygon": [[1e999, 0]]}}, 422),
        ({"note": "\0"}, 422),
        ({"name": "../x"}, 422),
        ({"bundle": "0" * 64}, 404),
    ],
)
def test_recipes_that_cannot_be_stored_are_refused(client: TestClient, wrong: dict[str, object], status: int) -> None:
    sha256 = client.get("/v1/bundles").json()[0]["sha256"]
    content = json.dumps({"name": "m", "bundle": sha256, **wrong}).encode()
    assert (
        client.post("/v1/recipes", content=content, headers={"Content-Type": "application/json"}).status_code == status
    )
    assert len(client.get("/v1/recipes").json()) == 1
