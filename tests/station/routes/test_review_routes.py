"""Routes of reviews."""

import base64
from concurrent.futures import ThreadPoolExecutor

import cv2
import numpy as np
import pytest
from fastapi.testclient import TestClient
from station_helpers import picture, send

from blemish.station import repository
from blemish.station.station import Station


def test_reviews_store_a_painted_mask(client: TestClient) -> None:
    part = send(client, picture(defect=True)).json()["id"]
    drawn = bytes(cv2.imencode(".png", np.full((64, 64), 255, np.uint8))[1])
    address = f"/v1/inspections/{part}/reviews"
    made = client.post(address, json={"label": "scratch", "mask_png": base64.b64encode(drawn).decode()}).json()
    assert (made["corrected"], made["created_by"]) == (["label", "mask"], "local")
    assert client.get(f"{address}/{made['id']}/mask").content == drawn
    for wrong in ("no base64!", base64.b64encode(b"no png").decode()):
        assert client.post(address, json={"label": "x", "mask_png": wrong}).status_code == 422
    assert client.get(f"/v1/inspections/{part}").json()["reviews"] == [made]


def test_a_review_is_saved_once_though_it_is_sent_twice(client: TestClient, station: Station) -> None:
    part = client.post("/v1/inspections", files={"image": picture()}).json()["id"]
    sent = {"label": "good", "note": "clean"}
    with ThreadPoolExecutor(4) as pool:
        answers = list(pool.map(lambda _: client.post(f"/v1/inspections/{part}/reviews", json=sent).json(), range(4)))
    assert len({answer["id"] for answer in answers}) == 1
    assert client.post(f"/v1/inspections/{part}/reviews", json=sent | {"note": ""}).json()["id"] != answers[0]["id"]
    actions = [row["action"] for row in client.get("/v1/audit").json()]
    assert actions.count("review") == 2


def test_a_mask_of_another_size_is_refused_by_its_header(
    client: TestClient, station: Station, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A PNG of 32,767² pixels in one mebibyte made parts wait for 19 s."""
    part = client.post("/v1/inspections", files={"image": picture()}).json()["id"]
    decoded = []
    decode = repository.decode_mask
    monkeypatch.setattr(repository, "decode_mask", lambda png: (decoded.append(len(png)), decode(png))[1])
    huge = bytes(cv2.imencode(".png", np.zeros((8000, 8000), np.uint8))[1])
    right = bytes(cv2.imencode(".png", np.zeros((64, 64), np.uint8))[1])
    for content, status in ((huge, 422), (right[:60], 422), (b"x", 422), (right, 201)):
        sent = {"label": "scratch", "mask_png": base64.b64encode(content).decode()}
        assert client.post(f"/v1/inspections/{part}/reviews", json=sent).status_code == status
    assert decoded == [60, len(right)]
