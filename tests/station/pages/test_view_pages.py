"""Recipes of several views on the pages: thresholds of each view, camera settings; nothing is previewed that the record
does not know."""

from pathlib import Path

import pytest
from browser import Browser
from graphs import anomaly_bundle
from selenium.webdriver.common.keys import Keys
from station_helpers import HTTP, Server, ServerMaker, wait_until

from blemish.inspection.manifest import Decision

SIDE = Decision(review=0.9, reject=0.99, map_low=0.4, map_high=0.5)


@pytest.fixture
def server(serve: ServerMaker, tmp_path: Path) -> Server:
    """With an active recipe of the views top and side."""
    server = serve("views")
    content = anomaly_bundle(tmp_path / "side.blemish", SIDE).read_bytes()
    side = HTTP.post(f"{server.url}/v1/bundles", files={"bundle": content}).json()["sha256"]
    first = HTTP.get(f"{server.url}/v1/recipes").json()[0]["bundle"]
    views = {"first": "top", "others": {"side": {"bundle": side}}}
    made = HTTP.post(f"{server.url}/v1/recipes", json={"name": "both", "bundle": first, "views": views})
    HTTP.post(f"{server.url}/v1/recipes/{made.json()['id']}/activate").raise_for_status()
    return server


def replace(browser: Browser, name: str, text: str) -> None:
    field = browser.one(f"[data-name={name}]")
    if field.tag_name not in ("input", "textarea"):
        field = field.find_element("css selector", "input,textarea")
    field.send_keys(Keys.CONTROL + "a")
    field.send_keys(text + Keys.TAB)


def test_thresholds_of_a_view_and_camera_settings_are_saved(browser: Browser, server: Server) -> None:
    browser.open(f"{server.url}/threshold")
    browser.driver.get_log("browser")
    assert not browser.all("[data-name=histogram]")
    replace(browser, "reject-side", "0.95")
    replace(browser, "view-rules", "reject if count >= 2")
    browser.fill("comment", "the side is checked more strictly")
    browser.click("[data-name=save]")
    wait_until(lambda: HTTP.get(f"{server.url}/v1/recipes").json()[0]["version"] == 2)
    wait_until(lambda: HTTP.get(f"{server.url}/v1/recipes").json()[0]["active"])
    old, new = HTTP.get(f"{server.url}/v1/recipes").json()[1::-1]
    assert new["decision"] == old["decision"]  # of the first view
    side = new["views"]["others"]["side"]
    assert (side["decision"]["review"], side["decision"]["reject"]) == (0.9, 0.95)
    assert side["decision"]["map_high"] == 0.5
    assert new["views"]["rules"] == ["reject if count >= 2"]
    browser.open(f"{server.url}/rules")
    browser.one(".empty", "several views")  # zones would be drawn on a sheet of views

    browser.open(f"{server.url}/training")
    browser.click("[data-name=recipe-both-2] [data-name=cameras]")
    replace(browser, "exposure_us-top", "-5")
    browser.fill("camera-reason", "the new lamp is brighter")
    browser.click("[data-name=save-cameras]")
    browser.one(".q-notification", "exposure_us")
    assert len(HTTP.get(f"{server.url}/v1/recipes").json()) == 3  # nothing wrong is saved
    replace(browser, "exposure_us-top", "5000")
    replace(browser, "roi-top", "0, 0, 640, 480")
    browser.click("[data-name=save-cameras]")
    wait_until(lambda: HTTP.get(f"{server.url}/v1/recipes").json()[0]["version"] == 3)
    saved = HTTP.get(f"{server.url}/v1/recipes").json()[0]
    assert set(saved["cameras"]) == {"top"}
    assert saved["cameras"]["top"]["exposure_us"] == 5000
    assert saved["cameras"]["top"]["roi"] == [0, 0, 640, 480]
    assert saved["views"] == new["views"]
    assert not saved["active"]
    changes = HTTP.get(f"{server.url}/v1/audit").json()
    assert "the new lamp is brighter" in str(changes)

    browser.open(f"{server.url}/threshold")  # a page of a recipe that another one replaces meanwhile
    replace(browser, "reject-side", "0.97")
    browser.fill("comment", "too late")
    HTTP.post(f"{server.url}/v1/recipes/1/activate").raise_for_status()
    browser.click("[data-name=save]")
    browser.one(".q-notification", "the change was made for both v2")
    assert len(HTTP.get(f"{server.url}/v1/recipes").json()) == 4  # nothing was saved
    assert HTTP.get(f"{server.url}/v1/recipes/1").json()["active"]
    browser.check(server.url)
