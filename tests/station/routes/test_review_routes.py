"""Routes of reviews."""

import base64

import cv2
import numpy as np
from fastapi.testclient import TestClient
from station_helpers import picture, send


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
