"""The machine interface, by the requests that a line, an operator and an engineer would send."""

import asyncio
import base64
import hashlib
import io
import json
import math
import re
import threading
import time
import zipfile
import zlib
from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import cv2
import httpx
import numpy as np
import onnx
import pytest
from fastapi.testclient import TestClient
from graphs import anomaly_bundle, make_bundle, model
from PIL import Image
from station_helpers import client_of, picture, running, wait_until

from blemish.inspection.manifest import Decision, SupportSet
from blemish.inspection.support_set import pack_vectors
from blemish.station import auth
from blemish.station.api import create_app
from blemish.station.models import TokenRow
from blemish.station.station import Station
from blemish.station.tickets import Ticket, TicketResult


def send(client: TestClient, content: bytes, key: str | None = None, name: str = "x.png", **fields: str):  # type: ignore[no-untyped-def]
    headers = {"Idempotency-Key": key} if key else {}
    return client.post("/v1/inspections", files={"image": (name, content)}, data=fields, headers=headers)


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


def test_a_key_gets_one_part_however_often_it_is_sent(client: TestClient) -> None:
    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(lambda _: send(client, picture(), key="k").json(), range(24)))
    assert all(answer == answers[0] for answer in answers)
    assert client.get("/v1/inspections").json()["total"] == 1
    assert send(client, picture(seed=9), key="k").status_code == 422


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


def test_a_full_queue_says_come_again_and_loses_nothing(tmp_path: Path, bundle_file: Path) -> None:
    with running(tmp_path / "s", bundle_file, queue_depth=3, batch_size=1, runners=1) as station:
        client, gate = client_of(station), threading.Event()
        inspect = station.service._inspect
        station.service._inspect = lambda *given: (gate.wait(), inspect(*given))[1]  # type: ignore[method-assign]
        with ThreadPoolExecutor(3) as pool:
            waiting = [pool.submit(send, client, picture(seed=i), f"k{i}") for i in range(3)]
            wait_until(lambda: station.service.depth == 3)
            refused = [send(client, picture(), f"late{i}") for i in range(5)]
            gate.set()
            assert [answer.result().json()["verdict"] for answer in waiting] == ["pass"] * 3
        assert {answer.status_code for answer in refused} == {429}
        assert all(int(answer.headers["Retry-After"]) >= 1 for answer in refused)
        assert send(client, picture(), "late0").status_code == 200
        assert client.get("/v1/inspections").json()["total"] == 4
        assert station.service.depth == 0
        assert "blemish_refused_total 5.0" in client.get("/metrics").text


def test_parts_share_a_batch_and_wait_for_others_no_longer_than_stated(tmp_path: Path, bundle_file: Path) -> None:
    settings = {"batch_size": 4, "batch_wait_ms": 400.0, "runners": 1}
    with running(tmp_path / "s", bundle_file, **settings) as station:
        client, gate, sizes = client_of(station), threading.Event(), []
        inspect = station.service._inspect

        def gated(recipe_id: int, tickets: list[Ticket]) -> list[TicketResult]:
            sizes.append(len(tickets))
            gate.wait()
            return inspect(recipe_id, tickets)

        station.service._inspect = gated  # type: ignore[method-assign]
        with ThreadPoolExecutor(9) as pool:
            first = pool.submit(send, client, picture())
            wait_until(lambda: sizes == [1])
            others = [pool.submit(send, client, picture(seed=i)) for i in range(8)]
            wait_until(lambda: station.service.depth == 9 and station.service._receiving == 0)
            gate.set()
            assert {answer.result().status_code for answer in (first, *others)} == {200}
        assert sizes == [1, 4, 4]
        station.service.reserve()  # one is on its way in, and never comes
        begin = time.monotonic()
        assert send(client, picture()).json()["verdict"] == "pass"
        assert time.monotonic() - begin >= 0.4
        station.service.release()


def test_a_body_that_does_not_come_is_given_up(tmp_path: Path, bundle_file: Path) -> None:
    async def trickle() -> AsyncIterator[bytes]:
        yield b"--x\r\n"
        await asyncio.sleep(60)

    async def ask(station: Station) -> httpx.Response:
        transport = httpx.ASGITransport(create_app(station))
        async with httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1") as client:
            kind = {"Content-Type": "multipart/form-data; boundary=x"}
            return await client.post("/v1/inspections", content=trickle(), headers=kind)

    with running(tmp_path / "s", bundle_file, time_limit_s=0.3) as station:
        assert asyncio.run(ask(station)).status_code == 408
        assert station.service.depth == 0
        assert client_of(station).get("/readyz").status_code == 200


def test_many_at_once_are_answered_each_with_its_own(client: TestClient) -> None:
    def ask(index: int) -> tuple[bool, str, str]:
        answer = send(client, picture(defect=index % 3 == 0, seed=index), part_id=f"p{index}").json()
        return index % 3 == 0, answer["verdict"], answer["part_id"]

    with ThreadPoolExecutor(16) as pool:
        found = list(pool.map(ask, range(60)))
    assert found == [(i % 3 == 0, "reject" if i % 3 == 0 else "pass", f"p{i}") for i in range(60)]
    assert client.get("/v1/inspections", params={"limit": 1}).json()["total"] == 60


def test_a_failing_engine_or_record_gives_no_verdict(client: TestClient, station: Station) -> None:
    def fail(*_: object, **__: object) -> None:
        raise RuntimeError("broken")

    inspectors, database = station.service.inspectors, station.database
    whole = inspectors.opened
    inspectors.opened = fail  # type: ignore[method-assign]
    answers = [send(client, picture(), key="a")]
    inspectors.opened = whole  # type: ignore[method-assign]
    writing = type(database).writing
    type(database).writing = fail  # type: ignore[assignment]
    answers.append(send(client, picture(), key="b"))
    type(database).writing = writing  # type: ignore[method-assign]
    assert [answer.status_code for answer in answers] == [503, 503]
    assert all("verdict" not in answer.json() for answer in answers)
    assert client.get("/v1/inspections").json()["total"] == 0
    assert [send(client, picture(), key=key).json()["verdict"] for key in "ab"] == ["pass", "pass"]
    assert station.service.depth == 0


def test_an_answer_that_takes_too_long_is_no_verdict_and_is_found_again(tmp_path: Path, bundle_file: Path) -> None:
    with running(tmp_path / "s", bundle_file, time_limit_s=0.3) as station:
        client, gate = client_of(station), threading.Event()
        inspect = station.service._inspect
        station.service._inspect = lambda *given: (gate.wait(), inspect(*given))[1]  # type: ignore[method-assign]
        late = send(client, picture(), key="k")
        assert (late.status_code, "verdict" in late.json()) == (503, False)
        gate.set()
        wait_until(lambda: station.service.depth == 0)
        assert send(client, picture(), key="k").json()["verdict"] == "pass"
        assert client.get("/v1/inspections").json()["total"] == 1


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
    third = client.put("/v1/decision", json={"decision": strict, "comment": "stricter"}).json()
    assert (third["name"], third["version"], third["active"]) == ("lenient", 2, True)
    assert send(client, picture()).json()["verdict"] == "reject"
    log = client.get("/v1/audit").json()
    assert [(e["action"], e["comment"]) for e in log[:2]] == [("activate", "stricter"), ("decision", "stricter")]
    assert log[1]["before"]["reject"] == 0.95
    wrong = client.put("/v1/decision", json={"decision": {"review": 2, "reject": 1}})
    assert (wrong.status_code, "above" in wrong.json()["detail"]) == (422, True)


def use(client: TestClient, bundle: Path) -> dict[str, object]:
    """Take in a bundle and make it the recipe in use; the answer to the first request that was refused, if any."""
    taken = client.post("/v1/bundles", files={"bundle": bundle.read_bytes()})
    made = taken if taken.status_code != 200 else post_recipe(client, taken.json()["sha256"])
    done = made if made.status_code != 201 else client.post(f"/v1/recipes/{made.json()['id']}/activate")
    return dict(done.json())


def post_recipe(client: TestClient, sha256: str):  # type: ignore[no-untyped-def]
    return client.post("/v1/recipes", json={"name": "other", "bundle": sha256})


def test_classes_known_by_examples_are_told_apart(client: TestClient, tmp_path: Path) -> None:
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


def test_a_bundle_that_wants_a_template_is_refused(client: TestClient, tmp_path: Path) -> None:
    refused = use(client, anomaly_bundle(tmp_path / "t.blemish", template=True))
    assert "template" in str(refused["detail"])
    assert send(client, picture()).json()["verdict"] == "pass"


def test_a_recipe_that_loses_the_golden_set_needs_a_reason(client: TestClient) -> None:
    bad, good = (send(client, picture(defect=d)).json()["id"] for d in (True, False))
    for part, label in ((bad, "defect"), (good, "good")):
        assert client.put(f"/v1/golden/{part}", json={"label": label}).status_code == 200
    decision = client.get("/v1/decision").json()
    blind = {**decision, "review": None, "reject": 0.99}
    refused = client.put("/v1/decision", json={"decision": blind})
    assert refused.status_code == 409
    assert str(bad) in refused.json()["detail"]
    assert send(client, picture(defect=True)).json()["verdict"] == "reject"
    assert client.put("/v1/decision", json={"decision": {**decision, "reject": 0.7}}).json()["active"]
    why = "trial without parts"
    assert (
        client.put("/v1/decision", json={"decision": blind, "comment": why}).status_code == 409
    )  # a note is no consent
    assert client.put("/v1/decision", json={"decision": blind, "accept_losses": True}).status_code == 409
    allowed = client.put("/v1/decision", json={"decision": blind, "comment": why, "accept_losses": True}).json()
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
        ({"scale": {"x": math.inf, "y": 1}}, 422),
        ({"roi": {"image_height": 64, "image_width": 64, "polygon": [[1e999, 0]]}}, 422),
        ({"note": "\0"}, 422),
        ({"name": "../x"}, 422),
        ({"bundle": "0" * 64}, 404),
    ],
)
def test_recipes_that_cannot_be_kept_are_refused(client: TestClient, wrong: dict[str, object], status: int) -> None:
    sha256 = client.get("/v1/bundles").json()[0]["sha256"]
    content = json.dumps({"name": "m", "bundle": sha256, **wrong}).encode()
    assert (
        client.post("/v1/recipes", content=content, headers={"Content-Type": "application/json"}).status_code == status
    )
    assert len(client.get("/v1/recipes").json()) == 1


def test_reviews_take_a_drawn_mask(client: TestClient) -> None:
    part = send(client, picture(defect=True)).json()["id"]
    drawn = bytes(cv2.imencode(".png", np.full((64, 64), 255, np.uint8))[1])
    address = f"/v1/inspections/{part}/reviews"
    made = client.post(address, json={"label": "scratch", "mask_png": base64.b64encode(drawn).decode()}).json()
    assert (made["corrected"], made["created_by"]) == (["label", "mask"], "local")
    assert client.get(f"{address}/{made['id']}/mask").content == drawn
    for wrong in ("no base64!", base64.b64encode(b"no png").decode()):
        assert client.post(address, json={"label": "x", "mask_png": wrong}).status_code == 422
    assert client.get(f"/v1/inspections/{part}").json()["reviews"] == [made]


def tokens(station: Station) -> dict[str, str]:
    with station.database.writing() as session:
        return {role: auth.create_token(session, role, role, "test") for role in auth.ROLES}


def test_each_role_may_do_its_own_and_no_more(station: Station) -> None:
    made = tokens(station)
    asks = {
        "line": ("GET", "/v1/recipes"), "operator": ("GET", "/v1/inspections"), "engineer": ("POST", "/v1/recipes/1/activate"),
        "admin": ("GET", "/v1/tokens"),
    }  # fmt: skip
    for role, token in made.items():
        client = client_of(station, token)
        assert (send(client, picture()).status_code) == 200
        for needed, (method, path) in asks.items():
            enough = auth.ROLES.index(role) >= auth.ROLES.index(needed)
            assert client.request(method, path).status_code == (200 if enough else 403), (role, path)
    nobody = client_of(station)
    open_paths = {"/healthz", "/readyz", "/openapi.json", "/v1/session"}
    for path, operations in nobody.get("/openapi.json").json()["paths"].items():
        for method in operations:
            status = nobody.request(method, re.sub("{[a-z]+_id}", "1", path)).status_code
            assert path in open_paths or status == 401, (method, path, status)
    with station.database.reading() as session:
        kept = [(row.name, row.sha256) for row in session.query(TokenRow)]
    assert kept == [(role, hashlib.sha256(token.encode()).hexdigest()) for role, token in made.items()]
    admin = client_of(station, made["admin"])
    assert admin.delete("/v1/tokens/line").status_code == 204
    assert client_of(station, made["line"]).get("/v1/recipes").status_code == 401


def test_a_cookie_needs_its_csrf_token_and_ends_with_its_token(station: Station) -> None:
    made = tokens(station)
    browser = client_of(station)
    assert browser.post("/v1/session", data={"token": "wrong"}).status_code == 401
    signed = browser.post("/v1/session", data={"token": made["engineer"]})
    cookie = signed.headers["set-cookie"].lower()
    assert "httponly" in cookie
    assert "samesite=strict" in cookie
    assert browser.get("/v1/inspections").status_code == 200
    assert browser.post("/v1/recipes/1/activate").status_code == 403
    good = {auth.CSRF_HEADER: signed.json()["csrf"]}
    assert browser.post("/v1/recipes/1/activate", headers=good).status_code == 200
    assert browser.post("/v1/recipes/1/activate", headers=good | {"Origin": "http://evil.example"}).status_code == 403
    assert browser.post("/v1/recipes/1/activate", headers=good | {"Sec-Fetch-Site": "cross-site"}).status_code == 403
    value = browser.cookies[auth.COOKIE]
    for forged in (value[:-1] + ("0" if value[-1] != "0" else "1"), "1.99999999999.x", "", "a.b.c", "..", "é"):
        with client_of(station) as other:
            assert (
                other.get("/v1/inspections", headers={"Cookie": f"{auth.COOKIE}={forged}".encode()}).status_code == 401
            )
    client_of(station, made["admin"]).delete("/v1/tokens/engineer")
    assert browser.get("/v1/inspections").status_code == 401


def test_on_loopback_other_sites_and_names_are_refused(client: TestClient) -> None:
    content = {"files": {"image": ("x.png", picture())}}
    assert client.post("/v1/inspections", **content, headers={"Origin": "http://evil.example"}).status_code == 403
    for name in ("evil.example", "127.evil.example", "127.0.0.1.evil.example"):
        assert client.get("/v1/inspections", headers={"Host": name}).status_code == 421
    assert client.post("/v1/inspections", **content, headers={"Origin": "http://127.0.0.1"}).status_code == 200
    headers = client.get("/healthz").headers
    assert headers["X-Content-Type-Options"] == "nosniff"
    assert "frame-ancestors 'none'" in headers["Content-Security-Policy"]
