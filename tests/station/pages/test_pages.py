"""The pages, used in a headless Chromium as people use them."""

import ast
import asyncio
import base64
import csv
import errno
import io
import json
import re
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_args

import cv2
import numpy as np
import pytest
from browser import Browser
from fastapi.testclient import TestClient
from graphs import anomaly_bundle
from selenium.webdriver.common.action_chains import ActionChains
from selenium.webdriver.common.actions.wheel_input import ScrollOrigin
from selenium.webdriver.common.keys import Keys
from selenium.webdriver.remote.webelement import WebElement
from station_helpers import BAD_GREY, HTTP, SIDE, Hook, Server, grey, picture, run_station, wait_until

from blemish.dataset.ground_truth import read_defect_mask
from blemish.dataset.labels import LabelEvidence
from blemish.dataset.read import read_dataset
from blemish.inspection import result
from blemish.inspection.convert import from_dict
from blemish.inspection.manifest import Decision
from blemish.inspection.result import ReasonKind
from blemish.qualify import shewhart
from blemish.station import (
    alarms,
    auth,
    image_quality,
    recipe_difference,
)
from blemish.station.models import InspectionRow
from blemish.station.pages import (
    dataset_view,
    heartbeat,
    inspection_card,
    job_list,
    label_editor,
    label_state,
    labelling,
    live,
    review,
    rules,
    session,
    threshold,
    trace,
    training_form,
    trends,
)
from blemish.station.pages import help as help_texts
from blemish.station.pages import site as pages_site
from blemish.station.pages.layout import MENU
from blemish.station.pages.session import PageSession
from blemish.station.replay import find_differences
from blemish.station.repository import to_inspection
from blemish.station.schemas import inspection_out
from blemish.station.station import Station
from blemish.translation import ENGLISH, languages, translator

RED = "rgba(220, 38, 38, 1)"
DOUBTFUL_GREY = 140  # between the thresholds of the grey bundle


PAGES = Path(pages_site.__file__).parent


@dataclass
class Site:
    browser: Browser
    url: str
    folder: Path

    def open(self, path: str) -> Browser:
        self.browser.open(self.url + path)
        return self.browser

    def send(self, content: bytes, **fields: str) -> dict[str, Any]:
        answer = HTTP.post(f"{self.url}/v1/inspections", files={"image": ("x.png", content)}, data=fields)
        assert answer.status_code == 200
        return dict(answer.json())

    def get(self, path: str) -> Any:
        return HTTP.get(self.url + path).json()


@pytest.fixture(scope="module")
def site(browser: Browser, bundle_file: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """A station whose pages all tests share: they use parts of their own."""
    folder = tmp_path_factory.mktemp("pages")
    data = folder / "data"
    for index in range(6):
        kind = "defect" if index % 3 == 2 else "good"
        (data / kind).mkdir(parents=True, exist_ok=True)
        (data / kind / f"{index}.png").write_bytes(picture(defect=kind == "defect", seed=100 + index))
    (data / "good" / "again.png").write_bytes(picture(seed=100))
    finished_job(folder / "station" / "jobs" / "20260101-000000-abcdef")
    server = Server(folder / "station", "--bundle", str(bundle_file), "--images", str(data))
    server.start()
    yield Site(browser, server.url, folder)
    server.kill()


def finished_job(folder: Path) -> None:
    """A training that ended with a bundle which passes everything."""
    (folder / "run").mkdir(parents=True)
    anomaly_bundle(folder / "run" / "run.blemish", Decision(review=2.0, reject=3.0))
    (folder / "report.html").write_text("<h1>report</h1>")
    kept = {"title": "patchcore · data", "user": "anna", "commands": [["train"]], "state": "done"}
    times = {"started": "2026-01-01T00:00:00+00:00", "ended": "2026-01-01T00:01:00+00:00"}
    (folder / "job.json").write_text(json.dumps({**kept, **times}))


def test_live_waits_for_parts_and_shows_the_last_one(site: Site) -> None:
    page = site.open("/")
    page.one(".empty", "No part yet")
    page.shoot("live-empty")
    site.send(picture(seed=1), part_id="first")
    page.one("[data-name=verdict]", "PASS")
    site.send(picture(defect=True, seed=2), part_id="second", lot="L1")
    page.one("[data-name=verdict]", "REJECT")
    assert page.one(".strip .thumb").text.startswith("REJECT\nsecond")
    shown = dict(re.findall(r"(parts|yield|reject)\n(\S+)", page.one(".figures").text))
    assert shown == {"parts": "2", "yield": "50.0%", "reject": "1"}
    assert "200 px²" in page.one(".table").text
    page.shoot("live")
    page.check(site.url)


def test_live_counts_forget_parts_that_are_older_than_the_period(
    browser: Browser, serve: Callable[..., Server]
) -> None:
    server = serve("station")
    site = Site(browser, server.url, server.folder)
    site.send(picture(defect=True), part_id="old")
    site.send(picture(seed=1), part_id="new")
    page = site.open("/")
    page.one(".figures", "parts\n2")
    with closing(sqlite3.connect(server.folder / "station.db")) as record, record:
        record.execute("UPDATE inspections SET created_at = '2026-01-01 00:00:00.000000' WHERE part_id = 'old'")
    page.one(".figures", "parts\n1")  # although no part came
    assert "100.0%" in page.one(".figures").text
    assert page.all(".pareto .rod") == []
    page.check(server.url)


def test_review_saves_the_label_and_the_painted_mask(site: Site) -> None:
    part = site.send(grey(DOUBTFUL_GREY, seed=3), part_id="doubtful")
    assert part["verdict"] == "review"
    page = site.open("/review")
    page.one(".panel", "doubtful")
    canvas = page.all(".mask-editor canvas")[1]
    page.until(lambda: canvas.size["width"] > 100 and canvas.get_attribute("width") == str(SIDE))
    page.drag(canvas, (0.5, 0.25), (0.75, 0.25))  # the brush is 12 px wide
    page.press("e")
    page.drag(canvas, (0.62, 0.1), (0.62, 0.4))
    page.press("p")
    for x, y in ((0.5, 0.6), (0.9, 0.6), (0.9, 0.9), (0.5, 0.9), (0.5, 0.6)):
        page.drag(canvas, (x, y))
    for x, y in ((0.1, 0.1), (0.3, 0.1), (0.3, 0.3)):
        page.drag(canvas, (x, y))  # nobody closes this one
    page.press("e", "h")
    page.shoot("review")
    page.press("h", "1", Keys.ENTER)
    wait_until(lambda: bool(site.get(f"/v1/inspections/{part['id']}")["reviews"]))
    review = site.get(f"/v1/inspections/{part['id']}")["reviews"][0]
    assert (review["label"], review["corrected"]) == ("defect", ["mask"])
    mask = fetch_mask(site, part["id"])
    assert mask.shape == (SIDE, SIDE)
    assert mask[45, 15]  # as it was found
    assert mask[16, 33]
    assert mask[16, 47]
    assert not mask[16, 40]  # erased
    assert mask[48, 45]  # within the polygon
    assert mask[9, 17]  # within the open one
    assert not mask[17, 9]
    assert not mask[30, 30]
    assert mask[39:57, 33:57].mean() > 0.5
    page.one(".empty", "No parts to review")
    page.check(site.url)


def fetch_mask(site: Site, inspection_id: int) -> np.ndarray:
    content = HTTP.get(f"{site.url}/v1/inspections/{inspection_id}/mask").content
    return np.asarray(cv2.imdecode(np.frombuffer(content, np.uint8), cv2.IMREAD_GRAYSCALE) > 127)


def test_the_review_follows_its_queue_and_goes_back(site: Site) -> None:
    site.open("/")  # an open page of reviews would claim the first part as it comes
    ids = [site.send(grey(DOUBTFUL_GREY, seed=60 + seed), part_id=f"follow{seed}")["id"] for seed in range(2)]
    page = site.open("/review")
    first = page.driver.current_window_handle
    page.one(".panel", "follow0")
    page.driver.switch_to.new_window("tab")
    site.open("/review").one(".panel", "follow1")  # the other one is claimed
    page.driver.close()
    page.driver.switch_to.window(first)
    page.press("g")
    ActionChains(page.driver).send_keys(Keys.ENTER, Keys.ENTER).perform()  # the next part is not saved unseen
    page.one(".panel", "follow1")
    page.press("u")
    page.one(".panel", "follow0")
    page.press("1", Keys.ENTER)  # corrected
    page.one(".panel", "follow1")
    page.press("g", Keys.ENTER)
    page.one(".empty", "No parts to review")
    labels = [[review["label"] for review in site.get(f"/v1/inspections/{key}")["reviews"]] for key in ids]
    assert labels == [["good", "defect"], ["good"]]
    later = site.send(grey(DOUBTFUL_GREY, seed=62), part_id="follow2")["id"]
    page.one(".panel", "follow2")  # by itself
    HTTP.post(f"{site.url}/v1/inspections/{later}/reviews", json={"label": "good"})
    page.check(site.url)


def test_a_contradicted_verdict_waits_for_a_second_review_and_all_are_exported(site: Site) -> None:
    part = site.send(picture(defect=True, seed=4), part_id="contradicted", lot="L7")
    HTTP.post(f"{site.url}/v1/inspections/{part['id']}/reviews", json={"label": "good"})
    page = site.open("/review")
    page.one(".panel", "contradicted")
    page.press("g", Keys.ENTER)
    page.one(".empty", "No parts to review")
    page.click("button", "Export reviewed parts")
    folder = Path(page.one(".q-dialog .mono").text)
    dataset = read_dataset(folder / "dataset.csv")
    by_name = {sample.image.stem: sample for sample in dataset.samples}
    said = by_name[str(part["id"])]
    assert (said.label, said.mask, said.group) == ("good", None, "L7")
    drawn = [sample for sample in dataset.samples if sample.mask is not None]
    for sample in drawn:
        assert (read_defect_mask(sample, (SIDE, SIDE)) == fetch_mask(site, int(sample.image.stem))).all()
    page.check(site.url)


def test_thresholds_are_dragged_and_saved_as_a_new_version(site: Site) -> None:
    for seed in range(10, 16):
        good = site.send(picture(seed=seed))
        HTTP.post(f"{site.url}/v1/inspections/{good['id']}/reviews", json={"label": "good"})
    bad = site.send(grey(180, seed=20), part_id="near-miss")
    HTTP.post(f"{site.url}/v1/inspections/{bad['id']}/reviews", json={"label": "scratch"})
    before = site.get("/v1/decision")
    page = site.open("/threshold")
    page.one(".panel-title", "Verdicts that would change: ")
    assert "near-miss" not in page.one("[data-name=changes]").text
    recipe = site.get("/v1/recipes")[0]
    page.one("[data-name=population]", f"Recipe {recipe['name']} with this bundle, all stations: the newest ")
    pixels = page.one("[data-name=histogram]").rect["width"]
    page.shoot("threshold")
    for name in ("reject", "review"):
        handle = page.one(f"[data-threshold={name}]")
        box = handle.rect
        page.drag(handle, (0.5, 0.03), (0.5 + 0.35 * pixels / box["width"], 0.03))
    page.one("[data-name=changes]", "near-miss")

    def near_miss_is_an_escape() -> bool:  # tried again where the page draws itself anew meanwhile
        assert re.search(r"escape\n(?!0\.0%)", page.one(".figures.wide").text)
        escape = page.one("[data-name=changes] .thumb.escape", "near-miss")
        assert escape.text.startswith("REJECT → ESCAPE")  # and never as a pass
        assert page.all("[data-name=changes] .thumb")[0] == escape
        assert escape.find_element("css selector", ".verdict.escape").value_of_css_property("background-color") == RED
        for tile in page.all("[data-name=changes] .thumb.escape"):  # nothing cuts the word off
            badge = tile.find_element("css selector", ".verdict.escape")
            assert badge.rect["x"] + badge.rect["width"] <= tile.rect["x"] + tile.rect["width"] + 1
        return True

    page.until(near_miss_is_an_escape)
    page.shoot("threshold-moved")
    page.click("[data-name=save]")
    page.one(".q-dialog .alarm", "Known escapes: 0 → ")
    assert not page.one("[data-name=confirm]").is_enabled()
    page.fill("reason", "too strict")
    page.shoot("threshold-reason")
    assert site.get("/v1/decision") == before
    page.click("[data-name=confirm]:not([disabled])")
    wait_until(lambda: site.get("/v1/decision") != before)
    after, recipe = site.get("/v1/decision"), site.get("/v1/recipes")[0]
    assert after["reject"] > 0.7
    assert before["review"] < after["review"] <= after["reject"]
    assert (recipe["version"], recipe["active"], recipe["note"]) == (2, True, "too strict")
    assert site.get("/v1/audit?limit=1")[0]["comment"] == "too strict"
    page.one(".recipe-name", "v2")
    page.check(site.url)
    HTTP.post(f"{site.url}/v1/recipes/1/activate")


def test_trends_show_control_charts_by_lot(site: Site) -> None:
    for lot in range(9):
        for number in range(2):
            site.send(picture(defect=number == 0 or lot == 8, seed=200 + 2 * lot + number), lot=f"chart{lot}")
    page = site.open("/trends")
    page.click("[data-name=grouped-by] button", "lot")
    for title in ("Share of rejects (p chart)", "Defects on a part (u chart)", "(I chart)", "(MR chart)"):
        page.one("[data-name=chart-title]", title)
    lots = [part["lot"] for part in site.get("/v1/inspections?limit=500")["items"] if part["lot"]]
    text = f": {len(lots)} inspections in the newest {len(set(lots))} groups"
    page.one("[data-name=population]", text)
    page.shoot("trends")
    page.check(site.url)


def test_the_map_of_defects_is_red_where_the_defects_of_a_lot_are(site: Site) -> None:
    for seed in range(2):
        site.send(picture(defect=True, seed=240 + seed), lot="mapped")
    site.send(grey(BAD_GREY, 242), lot="mapped elsewhere")
    page = site.open("/trends")
    for lot, regions, (x0, y0, x1, y1) in (
        ("mapped", "Regions: 2", (20, 20, 40, 30)),
        ("mapped elsewhere", "Regions: 1", (10, 40, 20, 50)),
    ):
        page.click("[data-name=map-lot]")
        page.until(lambda lot=lot: next((e for e in page.all(".q-menu .q-item") if e.text == lot), None)).click()
        page.one("[data-name=map-regions]", regions)
        source = page.one("[data-name=map]").get_attribute("src") or ""
        content = np.frombuffer(base64.b64decode(source.partition(",")[2]), np.uint8)
        blue, _, red = cv2.split(cv2.imdecode(content, cv2.IMREAD_COLOR).astype(int))
        rows, columns = np.nonzero(red - blue > 60)
        found = np.array([columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]) * SIDE / red.shape[0]
        assert np.abs(found - (x0, y0, x1, y1)).max() < 2
    page.check(site.url)


def test_a_dataset_is_opened_and_audited(site: Site) -> None:
    page = site.open(f"/training?path={site.folder / 'data'}")
    page.one("[data-name=gallery] .thumb", "again.png")
    page.click("[data-name=audit]")
    page.one(".q-expansion-item", "Duplicate images: 1")
    page.shoot("training")
    page.click("[data-name=work] button", "Compare methods")
    page.one("[data-name=start]:not([disabled])")
    page.click("[data-name=start]")
    page.one("[data-name=job-running]", "compare (1 / 1)")
    page.click("[data-name=cancel]")
    page.one("[data-name=job-cancelled]", "auto · data")
    page.fill("dataset", "/../..")
    page.click("[data-name=open]")
    page.one(".q-notification", "at or below a folder that this station may read")
    page.check(site.url)


def test_the_advisor_s_plan_fills_the_form_and_starts_a_training(site: Site) -> None:
    page = site.open(f"/training?path={site.folder / 'data'}")
    page.one("[data-name=gallery] .thumb")
    page.click("[data-name=advise]:not([disabled])")

    def planned() -> list[Any]:
        refused = [shown.text for shown in page.all(".q-notification")]
        assert not refused, refused
        return page.all("[data-name=advice] tr")[1:]

    rows = page.until(planned, seconds=400)  # it tries how long methods take
    first = rows[0].text.split()[0]
    assert all(cell.text for cell in rows[0].find_elements("css selector", "td"))
    page.shoot("training-plan")
    page.click("[data-name=use-method]")
    page.one(".q-chip", f"{first}:")
    page.click("[data-name=options-panel] .q-item")
    page.one("[data-name=option-form] .option")
    page.click("[data-name=train-by-plan]")
    job = page.one("[data-name=job-running]", f"{first} · data")
    assert "train (1 / 2)" in job.text
    page.click("[data-name=cancel]")
    page.one("[data-name=job-cancelled]", f"{first} · data")
    page.check(site.url)


def test_a_training_is_promoted_only_past_the_golden_set(site: Site) -> None:
    part = site.send(picture(defect=True, seed=30))
    HTTP.put(f"{site.url}/v1/golden/{part['id']}", json={"label": "scratch"})
    page = site.open("/training")
    page.one("[data-name=report]")
    assert "report" in HTTP.get(page.one("[data-name=report]").get_attribute("href")).text
    page.click("[data-name=promote]")
    page.click("[data-name=promote-now]")
    page.one(".q-dialog", "Parts of the golden set that this recipe loses: 1")
    page.shoot("promote-refused")
    assert site.get("/v1/recipes")[0]["active"] is False
    assert not page.one("button", "Activate anyway").is_enabled()
    page.fill("comment", "a trial")
    page.click("button:not([disabled])", "Activate anyway")
    wait_until(lambda: site.get("/v1/recipes")[0]["active"])
    assert f"a trial [loses 1 of the golden set: {part['id']}]" in site.get("/v1/audit?limit=1")[0]["comment"]
    assert site.send(picture(defect=True, seed=31))["verdict"] == "pass"
    page.check(site.url)
    HTTP.post(f"{site.url}/v1/recipes/1/activate")


def test_a_part_is_found_again_and_its_card_shows_everything(site: Site) -> None:
    part = site.send(picture(defect=True, seed=40), part_id="wanted", lot="L40")
    page = site.open("/trace")
    page.one("[data-name=results]")
    page.shoot("trace")
    page.fill("part_contains", "WANT" + Keys.ENTER)
    page.until(lambda: len(page.all("[data-name=results] .thumb")) == 1)
    rows = list(csv.DictReader(io.StringIO(HTTP.get(page.one("[data-name=csv]").get_attribute("href")).text)))
    assert [(row["part_id"], row["lot"], row["verdict"]) for row in rows] == [("wanted", "L40", "reject")]
    page.click("[data-name=results] .thumb")
    page.one("[data-name=reason]", "at or above the reject threshold")
    text = page.one(".page").text
    for piece in (part["image_sha256"], site.get("/v1/recipes/1")["bundle"], "wanted", "L40", "200 px²", "reject 0.6"):
        assert piece in text
    page.shoot("card")
    page.driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": "print"})
    assert not page.all(".no-print")[0].is_displayed()
    assert not page.all(".q-drawer")[0].is_displayed()
    page.driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": ""})
    page.driver.back()
    page.until(lambda: len(page.all("[data-name=results] .thumb")) == 1)  # the same list again
    page.click("[data-name=results] .thumb")
    page.click("button", "Inspect again")
    page.one(".q-notification", "the result is the same")
    page.check(site.url)
    page = site.open("/card/999999")
    page.one(".empty", "No such part")


def test_a_search_takes_pieces_in_any_case_and_filters_by_recipe_station_and_review(
    station: Station, client: TestClient
) -> None:
    for name, lot in (("Plate_7", "May/A"), ("plate-8", "may/b"), ("other", None)):
        fields = {"part_id": name, **({"lot": lot} if lot else {})}
        assert client.post("/v1/inspections", files={"image": picture()}, data=fields).is_success
    client.post("/v1/inspections/1/reviews", json={"label": "good"})

    def found(**query: str) -> list[str]:
        return sorted(part["part_id"] for part in client.get("/v1/inspections", params=query).json()["items"])

    assert found(part_contains="PLATE") == ["Plate_7", "plate-8"]
    assert found(part_contains="e_") == ["Plate_7"]  # no wildcard
    assert found(lot_contains="Y/B") == ["plate-8"]
    assert found(part_contains="plate", reviewed="false", recipe="test", station="station") == ["plate-8"]
    lines = client.get("/v1/inspections.csv", params={"part_contains": "plate"}).content.decode("utf-8-sig")
    assert [row["part_id"] for row in csv.DictReader(io.StringIO(lines))] == ["plate-8", "Plate_7"]


def test_a_missing_page_is_told_in_the_readers_language(site: Site) -> None:
    for language, text in (("zh-CN", "没有此页面"), ("en", "No such page")):
        answer = HTTP.get(f"{site.url}/nowhere/<b>", headers={"Accept-Language": language})
        assert answer.status_code == 404
        assert text in answer.text
    assert HTTP.get(f"{site.url}/v1/nowhere").json() == {"detail": "Not Found"}


def test_every_page_has_help_and_the_api_reference_needs_no_internet(site: Site) -> None:
    for path, _, _ in MENU:
        page = site.open(path)
        page.click("[data-name=help]")
        page.one("[data-name=help-text]")
    page.click(".q-dialog a", "API reference")
    page.one(".operation", "/v1/inspections/{inspection_id}")
    text = page.one(".page").text
    assert all(path in text for path in site.get("/openapi.json")["paths"])
    page.shoot("reference")
    page.check(site.url)


def shown_box(page: Browser, element: WebElement) -> dict[str, float]:
    """The place of an element in the window, zoomed as it is shown."""
    return dict(page.driver.execute_script("return arguments[0].getBoundingClientRect().toJSON()", element))


def test_the_mask_is_zoomed_moved_and_polygon_points_are_dragged(site: Site) -> None:
    part = site.send(grey(DOUBTFUL_GREY, seed=70), part_id="zoomed")
    page = site.open(f"/review?id={part['id']}")
    canvas = page.all(".mask-editor canvas")[1]
    page.until(lambda: canvas.size["width"] > 100 and canvas.get_attribute("width") == str(SIDE))
    width = canvas.rect["width"]
    page.press("p")
    for x, y in ((0.6, 0.1), (0.9, 0.1), (0.75, 0.2)):
        page.drag(canvas, (x, y))
    page.drag(canvas, (0.75, 0.2), (0.75, 0.4))  # the third point
    page.drag(canvas, (0.6, 0.1))  # closes it
    page.press("+", "+")
    page.until(lambda: shown_box(page, canvas)["width"] == pytest.approx(2.25 * width, rel=0.01))
    before = shown_box(page, canvas)["x"]
    page.press("v")
    frame = page.one(".mask-editor")
    page.drag(frame, (0.3, 0.5), (0.5, 0.5))
    page.until(lambda: shown_box(page, canvas)["x"] == pytest.approx(before + 0.2 * frame.rect["width"], abs=3))
    page.shoot("review-zoomed")
    page.press("0")
    page.until(lambda: shown_box(page, canvas)["width"] == pytest.approx(width, rel=0.01))
    page.fill("note", "seen from the left" + Keys.ENTER)
    wait_until(lambda: bool(site.get(f"/v1/inspections/{part['id']}")["reviews"]))
    assert site.get(f"/v1/inspections/{part['id']}")["reviews"][0]["note"] == "seen from the left"
    mask = fetch_mask(site, part["id"])
    assert mask[20, 48]
    assert not mask[30, 48]
    page.check(site.url)


def test_an_image_of_a_dataset_is_enlarged(site: Site) -> None:
    page = site.open(f"/training?path={site.folder / 'data'}")
    page.click("[data-name=gallery] .thumb img")
    image = page.one("[data-name=enlarged] img")
    width = image.rect["width"]
    ActionChains(page.driver).scroll_from_origin(ScrollOrigin.from_element(image), 0, -400).perform()
    page.until(lambda: shown_box(page, image)["width"] > 1.5 * width)
    page.check(site.url)


def test_all_pages_in_chinese(site: Site) -> None:
    part = site.send(picture(defect=True, seed=61), part_id="for the trends")
    page = site.open("/trends")
    page.one(".panel", "Position of defects on the part")
    page.click("button", "中文")
    page.one(".page-title", "趋势")
    page.one(".menu-entry", "追溯")
    for path, name, _ in MENU:
        page = site.open(path)
        page.one(".page-title", translator("zh")(name))
        page.shoot(f"{name.split()[0].lower()}-zh")
        page.check(site.url)
    site.open(f"/card/{part['id']}").shoot("card-zh")
    page = site.open("/training?path=/nowhere")
    page.one(".q-notification", "所给路径不是此工位可读取的文件夹")  # errors too
    page.shoot("error-zh")
    page = site.open("/")
    page.one(".panel-title", "计数")
    page.click("button", "English")
    page.one(".panel-title", "Count")


def test_a_token_opens_the_pages_of_its_role_only(browser: Browser, serve: Any, tmp_path: Path) -> None:
    server = serve("guarded")
    tokens = {}
    tokens["admin"] = HTTP.post(f"{server.url}/v1/tokens", json={"name": "root", "role": "admin"}).json()["token"]
    head = {"Authorization": f"Bearer {tokens['admin']}"}
    for role in ("line", "operator"):
        made = HTTP.post(f"{server.url}/v1/tokens", json={"name": role, "role": role}, headers=head)
        tokens[role] = made.json()["token"]
    HTTP.post(f"{server.url}/v1/inspections", files={"image": ("x.png", grey(DOUBTFUL_GREY, 1))}, headers=head)
    browser.open(f"{server.url}/review")
    assert browser.driver.current_url.endswith("/login?next=/review")
    browser.shoot("login")
    browser.click("[data-name=language]", "中文")
    browser.until(lambda: browser.driver.title == "登录 · blemish")
    browser.click("[data-name=language]", "English")
    browser.until(lambda: browser.driver.title == "Sign in · blemish")
    assert browser.driver.current_url.endswith("/login?next=/review")
    browser.fill("token", "blm_wrong" + Keys.ENTER)
    browser.one("#sign-in-problem", "Invalid or revoked token.")
    browser.driver.get_log("browser")  # it contains the refusal
    browser.open(f"{server.url}/login?next=/review")
    browser.fill("token", tokens["operator"] + Keys.ENTER)
    browser.one(".panel", "True class")
    browser.check(server.url)
    browser.open(f"{server.url}/training")
    browser.one(".empty", "Your role (operator) cannot open this page")
    browser.open(f"{server.url}/review")
    browser.one("[data-name=save]")
    HTTP.delete(f"{server.url}/v1/tokens/operator", headers=head)
    browser.until(lambda: "/login?next=" in browser.driver.current_url, seconds=3)
    assert HTTP.get(f"{server.url}/v1/inspections/1", headers=head).json()["reviews"] == []
    browser.open(f"{server.url}/login")
    browser.fill("token", tokens["line"] + Keys.ENTER)
    browser.one(".empty", "Your role (line) cannot open this page")


@pytest.mark.parametrize(
    ("error", "shown"),
    [
        (OSError(errno.ENOSPC, "No space left on device", "/data/labels.jsonl"),
         "A file could not be read or written: No space left on device (/data/labels.jsonl)"),
        (PermissionError(errno.EACCES, "Permission denied"), "A file could not be read or written: Permission denied"),
        (TimeoutError("JavaScript did not respond"), "The browser did not answer in time; try again."),
    ],
)  # fmt: skip
def test_an_action_that_fails_at_a_file_says_so(station: Station, error: OSError, shown: str) -> None:
    page = session.PageSession(station, None, "en", direct=True)
    told: list[str] = []
    page.notify_error = told.append  # type: ignore[method-assign]

    async def fails(user: auth.User) -> None:
        raise error

    asyncio.run(page.handler("operator", fails)())
    assert told == [shown]


def test_every_text_of_the_pages_is_translated() -> None:
    """Literals, also within conditions, that are passed to `t`, and the texts in tables that are translated later."""
    used: set[str] = set()
    for file in PAGES.glob("*.py"):
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            name = getattr(node.func, "attr", getattr(node.func, "id", "")) if isinstance(node, ast.Call) else ""
            if isinstance(node, ast.Call) and name == "t" and node.args:
                constants = (part for part in ast.walk(node.args[0]) if isinstance(part, ast.Constant))
                used |= {part.value for part in constants if isinstance(part.value, str) and part.value}
    used |= {name for _, name, _ in MENU} | {meaning for _, meaning in review.KEYS} | {*trace.SIZES.values()}
    used |= {*review.QUEUES.values(), *(name for _, name in review.TOOLS.values()), *live.PERIODS.values()}
    used |= {*(title for _, title, _ in trends.QUALITIES), *(title for _, title in dataset_view.FINDINGS)}
    used |= {*training_form.HINTS.values(), *job_list.ICONS, *auth.ROLES, *get_args(image_quality.AlarmKind)}
    used |= {*result.SENTENCES.values(), session.DATABASE_LOST, *threshold.COLOURS, *inspection_card.TIMINGS}
    used |= {text for texts in help_texts.HELP.values() for text in texts} | {*heartbeat.TEXTS.values()}
    used |= {
        *alarms.SENTENCES.values(),
        *live.COUNTED_BY,
        "source",
        "sink",
        "engine",
        "database",
        "disk",
        "Line display",
        "Refused results",
        *(rule for rule, *_ in shewhart.RULES),
        *inspection_card.DISPOSITIONS,
        *inspection_card.SIGNATURE,
    }
    used |= {*labelling.TABS.values(), *label_state.STATES.values(), *rules.KINDS.values(), *rules.NEW_AREAS.values()}
    used |= {meaning for _, meaning in label_editor.KEYS} | {name for _, name in label_editor.TOOLS.values()}
    used |= {*map(str, LabelEvidence), "Why are rules or areas changed?", "Why are the thresholds changed?"}
    used |= {"threshold of {name}", "zone {name}", "rule: {text}", "created", *recipe_difference.NAMES.values()}
    used |= {
        "reachable",
        "stalled",
        "no verdicts: {reason}",
        "no answer",
        "no image",
        "works",
        "{number} waiting",
        "{free:.1f} GiB free",
    }
    used |= {"{number} waiting, {dead} refused", "API reference"}
    used |= {"pass", "review", "reject", "api", "folder", "camera", "dataset", "all defects", "all images"}
    assert set(result.SENTENCES) == set(ReasonKind)
    for language in languages()[1:]:
        t = translator(language)
        assert len(used) > 100
        assert {text for text in used if t(text) == text} == set()


def test_no_program_reads_the_text_of_a_reason(
    station: Station, client: TestClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    part = client.post("/v1/inspections", files={"image": picture(defect=True)}).json()
    with station.database.reading() as database:
        row = database.get_one(InspectionRow, part["id"])
    shown = {language: PageSession(station, None, language).reasons(row) for language in ("en", "zh")}
    score, threshold = part["reasons"][0]["value"], part["reasons"][0]["threshold"]
    assert shown["en"] == [f"score {score:.4g} is at or above the reject threshold {threshold:.4g}"]
    assert shown["zh"] == [f"得分 {score:.4g} 达到或超过“不合格”阈值 {threshold:.4g}"]
    for kind in ReasonKind:
        monkeypatch.setitem(result.SENTENCES, kind, "another sentence")
    for language in languages():
        assert PageSession(station, None, language).reasons(row) == ["another sentence"]
    again = station.service.inspectors.get(row.recipe).inspect(station.settings.images / str(row.image_path))
    assert str(again.reasons[0]) == "another sentence"
    assert find_differences(to_inspection(row), again) == []
    delivered = json.loads(inspection_out(row).model_dump_json())  # as sinks get it
    answer = client.get(f"/v1/inspections/{part['id']}").json()
    assert from_dict(answer).reasons == from_dict(delivered).reasons == again.reasons
    assert {**answer["reasons"][0], "text": ""} == {**part["reasons"][0], "text": ""}


def test_a_class_may_be_called_with_braces(tmp_path: Path, bundle_file: Path) -> None:
    with run_station(tmp_path / "s", bundle_file) as station:
        page = PageSession(station, None, ENGLISH)
        assert page.t("{x}") == "{x}"
        assert page.t("Reviewed parts written as a dataset: {number}", number=3).endswith(" 3")


def test_a_card_is_printed_on_one_sheet(site: Site) -> None:
    part = site.send(picture(defect=True, seed=45), part_id="printed", lot="L45")
    site.browser.driver.get_log("browser")  # of other tests, in which a station was stopped
    page = site.open(f"/card/{part['id']}")
    page.one("[data-name=verdict]")
    page.until(lambda: page.driver.title == "reject · printed · blemish")
    page.until(lambda: all(page.driver.execute_script("return arguments[0].complete", e) for e in page.all("img")))
    page.driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": "print"})
    assert page.one(".card-title").text == "Inspection card: reject"
    assert page.one(".signature").text.split() == ["Name", "Date", "Signature"]
    assert re.search(r"\(UTC[+-]\d\d:\d\d\)", page.one("body").text)
    page.driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": ""})
    made = page.driver.execute_cdp_cmd("Page.printToPDF", {"preferCSSPageSize": True, "printBackground": True})
    content = base64.b64decode(made["data"])
    (page_folder := Path(__file__).parents[3] / "build" / "screenshots").mkdir(parents=True, exist_ok=True)
    (page_folder / "card.pdf").write_bytes(content)
    assert len(re.findall(rb"/Type\s*/Page\b", content)) == 1
    page.check(site.url)


def test_refused_results_are_shown_and_sent_again(browser: Browser, bundle_file: Path, tmp_path: Path) -> None:
    hook = Hook()
    hook.refuses = {"=p1": 422}
    with hook.up():
        server = Server(tmp_path / "s", "--bundle", str(bundle_file), "--sink", f"http://127.0.0.1:{hook.port}/in")
        server.start()
        try:
            HTTP.post(f"{server.url}/v1/inspections", files={"image": picture()}, data={"part_id": "=p1"})
            wait_until(lambda: len(HTTP.get(f"{server.url}/v1/dead-letters").json()) == 1)
            browser.open(server.url)
            browser.click("[data-name=state-sink] a")
            assert "HTTP 422" in browser.one("[data-name=letter]", "=p1").text
            browser.shoot("dead-letters")
            hook.refuses = {}
            browser.click("[data-name=send-again]")
            wait_until(lambda: len(hook.taken) == 1)
            browser.one(".empty", "No sink has refused a result")
            assert HTTP.get(f"{server.url}/v1/audit?limit=1").json()[0]["action"] == "retry"
            browser.check(server.url)
        finally:
            server.kill()
            browser.driver.get("about:blank")
