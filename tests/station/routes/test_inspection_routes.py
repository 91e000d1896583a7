"""Routes of inspections: parts inspected, searched and shown, and what is refused."""

import csv
import hashlib
import io
import threading
import zlib
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from fastapi.testclient import TestClient
from graphs import anomaly_bundle
from httpx import Response
from PIL import Image
from station_helpers import make_client, picture, run_station, send, use, wait_until

from blemish.inspection.manifest import Decision
from blemish.station import rendering
from blemish.station.routes import lists
from blemish.station.station import Station


def test_a_part_is_inspected_recorded_and_shown(client: TestClient, station: Station) -> None:
    content = picture(defect=True)
    made = send(client, content, part_id="p1", lot="l1").json()
    assert (made["verdict"], made["part_id"], made["lot"]) == ("reject", "p1", "l1")
    assert made["image_sha256"] == hashlib.sha256(content).hexdigest()
    assert [region["box"] for region in made["regions"]] == [[20, 20, 40, 30]]
    assert made["regions"][0]["measurements"]["area_px"] == 200
    address = f"/v1/inspections/{made['id']}"
    assert client.get(address).json() == made
    assert client.get(f"{address}/image").content == content
    shown = {kind: read_png(client.get(f"{address}/{kind}").content) for kind in ("preview", "overlay", "heatmap")}
    assert shown["preview"].shape[:2] == shown["heatmap"].shape[:2] == (64, 64)
    assert shown["heatmap"][25, 30] == 255
    assert shown["heatmap"][50, 50] < 100
    assert np.ptp(shown["preview"], axis=2).max() == 0
    assert np.ptp(shown["overlay"], axis=2).max() > 100  # drawn in colour
    assert read_png(client.get(f"{address}/overlay", params={"side": 32}).content).shape[0] == 32
    assert send(client, picture()).json()["verdict"] == "pass"
    found = client.get("/v1/inspections", params={"verdict": "reject"}).json()
    assert (found["items"], found["total"]) == ([made], 1)


def read_png(content: bytes) -> np.ndarray:
    found = cv2.imdecode(np.frombuffer(content, np.uint8), cv2.IMREAD_UNCHANGED)
    assert found is not None
    return found


def test_every_condition_of_a_search_holds(client: TestClient, tmp_path: Path) -> None:
    rejected = send(client, picture(defect=True), part_id="p1", lot="l1").json()
    passed = send(client, picture(), part_id="p2", lot="l2").json()
    client.post(f"/v1/inspections/{passed['id']}/reviews", json={"label": "good"})
    other = anomaly_bundle(tmp_path / "other.blemish", Decision(review=0.1, reject=0.95))
    recipe = use(client, other)
    reviewed = send(client, picture(seed=1), part_id="p3").json()

    def ids(**conditions: object) -> set[int]:
        found = client.get("/v1/inspections", params=conditions).json()  # type: ignore[arg-type]
        assert found["total"] == len(found["items"])
        return {item["id"] for item in found["items"]}

    first, second, third = (part["id"] for part in (rejected, passed, reviewed))
    time = passed["created_at"]
    for conditions, wanted in (
        ({}, {first, second, third}), ({"part_id": "p1"}, {first}), ({"lot": "l2"}, {second}),
        ({"verdict": "review"}, {third}), ({"label": "good"}, {second}), ({"recipe": "other"}, {third}),
        ({"recipe": str(recipe["id"])}, {third}), ({"recipe": "1"}, {first, second}), ({"station": "other"}, set()),
        ({"station": "station", "lot": "l1"}, {first}), ({"since": time}, {second, third}), ({"until": time}, {first}),
        ({"since": time.removesuffix("Z")}, {second, third}), ({"min_area_px": 200}, {first}),
        ({"min_area_px": 201}, set()), ({"min_length_px": 20}, {first}), ({"min_length_px": 21}, set()),
        ({"reviewed": True}, {second}),
        ({"reviewed": False}, {first, third}), ({"verdict": "reject", "lot": "l2"}, set()),
    ):  # fmt: skip
        assert ids(**conditions) == wanted, conditions
    page = client.get("/v1/inspections", params={"limit": 2}).json()
    assert ([item["id"] for item in page["items"]], page["total"]) == ([third, second], 3)
    page = client.get("/v1/inspections", params={"limit": 2, "before": page["next"]}).json()
    assert ([item["id"] for item in page["items"]], page["next"]) == ([first], None)
    for wrong in ({"verdict": "fine"}, {"since": "yesterday"}, {"limit": 0}, {"min_area_px": -1}, {"before": "x"}):
        assert client.get("/v1/inspections", params=wrong).status_code == 422


def test_only_files_below_allowed_folders_are_read(client: TestClient, tmp_path: Path) -> None:
    shots, secret = tmp_path / "shots", tmp_path / "secret.png"
    (shots / "deep").mkdir(parents=True)
    (shots / "deep" / "a.png").write_bytes(picture(defect=True))
    secret.write_bytes(picture())
    (shots / "link.png").symlink_to(secret)

    def ask(path: Path | str) -> int:
        return client.post("/v1/inspections", data={"path": str(path)}).status_code

    assert ask(shots / "deep" / "a.png") == 200
    for path in (secret, shots / "link.png", shots / ".." / "secret.png", shots, "/etc/passwd", "/dev/zero"):
        assert ask(path) == 422
    assert ask("a\0b") == ask("x" * 5000) == 422
    assert (shots / "deep" / "a.png").exists()


def bomb() -> bytes:
    """A PNG of a few hundred bytes that claims 60,000 x 60,000 pixels."""
    content = bytearray(picture())
    content[16:24] = (60000).to_bytes(4, "big") * 2
    content[29:33] = zlib.crc32(content[12:29]).to_bytes(4, "big")
    return bytes(content)


def encoded(kind: str, **options: object) -> bytes:
    stream = io.BytesIO()
    mode = "CMYK" if kind == "JPEG" else "I;16"
    Image.new(mode, (64, 64)).save(stream, kind, **options)
    return stream.getvalue()


@pytest.mark.parametrize(
    ("content", "status"),
    [
        (picture()[:-20], 422),
        (picture()[:60], 422),
        (b"", 422),
        (b"\x89PNG\r\n\x1a\n", 422),
        (b"%PDF-1.4 no image", 422),
        (b"\xff\xd8\xff" + bytes(100), 422),
        (bomb(), 422),
        (encoded("JPEG"), 200),
        (encoded("PNG"), 200),
    ],
    ids=["cut", "cut-early", "empty", "only-magic", "pdf", "no-jpeg", "bomb", "cmyk", "16-bit"],
)
def test_malformed_images_are_refused_and_leave_the_station_healthy(
    client: TestClient, station: Station, content: bytes, status: int
) -> None:
    for name in ("x.png", "../../etc/x.exe", "x\0.png", ""):
        answer = send(client, content, name=name or "blob")
        assert answer.status_code == status
        assert status == 200 or "verdict" not in answer.json()
        assert str(station.settings.data) not in answer.text
    assert send(client, picture()).json()["verdict"] == "pass"
    assert client.get("/readyz").status_code == 200
    assert list(station.settings.incoming.iterdir()) == []
    assert client.get("/v1/inspections").json()["total"] == (1 if status == 422 else 5)


@pytest.mark.parametrize(
    "fields", [{}, {"image": "no file"}, {"recipe": "none"}, {"part_id": "x" * 300}, {"part_id": "\0"}, {"other": "x"}]
)
def test_wrong_forms_are_refused(client: TestClient, fields: dict[str, str]) -> None:
    files = {"image": ("x.png", picture())} if fields and "image" not in fields else None
    assert client.post("/v1/inspections", data=fields, files=files).status_code == 422
    assert client.get("/v1/inspections").json()["total"] == 0


def test_pictures_are_revalidated_by_browsers_and_rendered_once(
    station: Station, client: TestClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    part = send(client, picture(defect=True)).json()["id"]
    rendered = []
    draw = rendering.render_overlay
    monkeypatch.setattr(rendering, "render_overlay", lambda *given: (rendered.append(given), draw(*given))[1])
    address = f"/v1/inspections/{part}"
    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(lambda _: client.get(f"{address}/overlay?side=32"), range(16)))
    assert len({answer.content for answer in answers}) == 1
    assert len(rendered) == 1
    assert answers[0].headers["Cache-Control"] == "private, no-cache"
    known = {"If-None-Match": answers[0].headers["ETag"]}
    assert client.get(f"{address}/overlay?side=32", headers=known).status_code == 304
    assert client.get(f"{address}/overlay?side=48", headers=known).status_code == 200
    tag = client.get(f"{address}/mask").headers["ETag"]
    assert client.get(f"{address}/mask", headers={"If-None-Match": tag}).status_code == 304
    client.post(f"{address}/reviews", json={"label": "scratch"})
    assert client.get(f"{address}/mask", headers={"If-None-Match": tag}).status_code == 200


def test_a_browser_does_not_show_the_picture_of_another_record(bundle_file: Path, tmp_path: Path) -> None:
    """Of the same image, path and id, but rejected in one record and passed in the other."""
    blind, tags = anomaly_bundle(tmp_path / "blind.blemish", decision=Decision(reject=5.0)), []
    for name, bundle in (("one", bundle_file), ("two", blind)):
        with run_station(tmp_path / name, bundle) as station:
            client = make_client(station)
            address = f"/v1/inspections/{send(client, picture(defect=True)).json()['id']}/overlay"
            assert client.get(address, headers={"If-None-Match": ", ".join(tags)}).status_code == 200
            tags.append(client.get(address).headers["ETag"])


def test_a_list_that_is_cut_says_so(client: TestClient, monkeypatch: pytest.MonkeyPatch) -> None:
    for seed in range(7):
        send(client, picture(seed=seed), lot="other" if seed < 2 else "lot")
    monkeypatch.setattr(lists, "BATCH", 2)
    for limit, ids, note in ((4, "7654", ["cut here: 1 "]), (6, "76543", []), (2, "76", ["cut here: 3 "])):
        monkeypatch.setattr(lists, "MAX_LISTED", limit)
        text = client.get("/v1/inspections.csv", params={"lot": "lot"}).content.decode("utf-8-sig")
        rows = list(csv.DictReader(io.StringIO(text)))
        assert all(None not in row and None not in row.values() for row in rows)  # of one width
        assert [row["id"] for row in rows[: len(ids)]] == list(ids)
        assert [row["id"][:12] for row in rows[len(ids) :]] == note


def test_two_threads_render_all_pictures(station: Station, client: TestClient, monkeypatch: pytest.MonkeyPatch) -> None:
    part, gate, busy = send(client, picture()).json()["id"], threading.Event(), []
    render = rendering.render_image

    def slow(*given: Any) -> bytes:
        busy.append(threading.current_thread().name)
        gate.wait(20)
        return render(*given)

    monkeypatch.setattr(rendering, "render_image", slow)
    with ThreadPoolExecutor(9) as pool:
        viewers = [pool.submit(client.get, f"/v1/inspections/{part}/preview?side={side}") for side in range(20, 28)]
        wait_until(lambda: len(busy) == 2)
        assert send(client, picture(seed=1)).json()["verdict"] == "pass"  # the line goes on
        assert len(busy) == 2
        gate.set()
        assert {viewer.result().status_code for viewer in viewers} == {200}
    assert len(set(busy)) == 2


def test_an_image_may_be_the_whole_body(client: TestClient) -> None:
    def post(content: bytes, kind: str = "image/png", key: str = "k", **query: str) -> Response:
        headers = {"Content-Type": kind, "Idempotency-Key": key}
        return client.post("/v1/inspections", content=content, params=query, headers=headers)

    content = picture(defect=True)
    made = post(content, part_id="p1", lot="l1").json()
    assert (made["verdict"], made["part_id"], made["lot"]) == ("reject", "p1", "l1")
    assert client.get(f"/v1/inspections/{made['id']}").json() == made
    assert post(content, part_id="p1", lot="l1").json() == made
    assert send(client, content, key="k", part_id="p1", lot="l1").json() == made  # the same part, in a form
    assert post(content, part_id="p2", lot="l1").status_code == 422
    for wrong in ({"part": "p1"}, {"part_id": "x" * 201}, {"lot": "a\u202eb"}, {"image": "x"}):
        assert post(content, key="other", **wrong).status_code == 422
    assert client.post("/v1/inspections?lot=a&lot=b", content=content, headers={"Content-Type": "image/png"}).is_error
    assert post(b"", key="other").status_code == 422
    assert post(b"no image", key="other").status_code == 422
    form = {"files": {"image": content}, "params": {"part_id": "p1"}}
    assert "in the form" in client.post("/v1/inspections", **form).json()["detail"]  # type: ignore[arg-type]
    assert client.get("/v1/inspections").json()["total"] == 1


def test_a_large_image_as_the_body(client: TestClient) -> None:
    """Larger than what is kept in memory."""
    noise = np.random.default_rng(0).integers(0, 60, (1300, 1300), np.uint8)
    content = cv2.imencode(".png", noise)[1].tobytes()
    assert len(content) > 2**20
    made = client.post("/v1/inspections", content=content, headers={"Content-Type": "image/png"}).json()
    assert made["image_sha256"] == hashlib.sha256(content).hexdigest()
