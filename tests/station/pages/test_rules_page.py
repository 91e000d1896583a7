"""Rules, zones, class thresholds and areas, edited on a picture in a headless Chromium."""

from typing import Any

import pytest
from browser import Browser
from selenium.webdriver.common.keys import Keys
from station_helpers import HTTP, SIDE, Server, ServerMaker, picture, wait_until

from blemish.inspection.rule_parser import parse_rule
from blemish.station.pages.rules import compose_rule


@pytest.fixture
def server(serve: ServerMaker) -> Server:
    server = serve("rules")
    for seed in range(3):
        HTTP.post(f"{server.url}/v1/inspections", files={"image": ("x.png", picture(defect=seed > 0, seed=seed))})
    HTTP.post(f"{server.url}/v1/inspections/2/reviews", json={"label": "scratch"})
    return server


def test_a_zone_a_rule_and_an_area_are_drawn_and_saved(browser: Browser, server: Server) -> None:
    browser.open(f"{server.url}/rules")
    browser.driver.get_log("browser")  # of other tests, in which a station was stopped
    browser.shoot("rules")
    browser.click("[data-name=add-zone]")
    frame = browser.one("[data-name=areas]")

    def first_corner() -> tuple[float, float] | None:
        around, corners = frame.rect, [point.rect for point in browser.all("[data-point]")]
        places = [
            ((own["x"] + own["width"] / 2 - around["x"]) / around["width"],
             (own["y"] + own["height"] / 2 - around["y"]) / around["height"])
            for own in corners
        ]  # fmt: skip
        return places[0] if places and places[0] == pytest.approx((0.3, 0.3), abs=0.01) else None

    browser.drag(frame, browser.until(first_corner), (0.1, 0.1))  # once the page stands still
    browser.click("[data-name=compose]")
    browser.click("[data-name=add-rule]")
    rules = browser.one("[data-name=rules]")
    rules = rules if rules.tag_name == "textarea" else rules.find_element("css selector", "textarea")
    browser.until(lambda: rules.get_attribute("value") == "reject if length_px > 10")
    rules.send_keys(Keys.END + Keys.BACKSPACE * len("reject if length_px > 10") + "ignore if score < 2 in zone zone1")
    # Both scratches lie in the zone, one of them reviewed; what else their heat maps show is not recorded.
    browser.one("[data-name=untold]", "Cannot be told: 2 parts, 1 of them known to be defective")
    assert not browser.all("[data-name=changes] .thumb")
    rules.send_keys("x")
    browser.one(".q-notification", "zone1x")
    browser.click("[data-name=save]")
    assert HTTP.get(f"{server.url}/v1/recipes").json()[0]["version"] == 1  # nothing wrong is saved
    rules.send_keys(Keys.BACKSPACE)
    browser.until(lambda: not browser.all(".q-field--error"))
    browser.click("[data-name=add-ignored]")
    browser.one("[data-name=roi-note]")
    browser.shoot("rules-zone")
    browser.click("[data-name=save]")
    browser.one(".q-dialog [data-name=untold]", "Cannot be told: 2 parts")
    browser.fill("reason", "the clamp is no defect")
    browser.click("[data-name=confirm]:not([disabled])")
    wait_until(lambda: HTTP.get(f"{server.url}/v1/recipes").json()[0]["version"] == 2)
    recipe = HTTP.get(f"{server.url}/v1/recipes").json()[0]
    zone = recipe["decision"]["zones"]["zone1"]
    assert recipe["decision"]["rules"] == ["ignore if score < 2 in zone zone1"]
    assert zone[0] == [pytest.approx(0.1 * SIDE, abs=0.7), pytest.approx(0.1 * SIDE, abs=0.7)]
    assert zone[2] == [pytest.approx(0.7 * SIDE, abs=0.1), pytest.approx(0.7 * SIDE, abs=0.1)]
    assert len(recipe["roi"]["ignore"]) == 1
    browser.check(server.url)


ANY = {"action": "reject", "label": "", "name": "length_px", "sign": ">", "number": 10, "zone": ""}
IGNORED = {"action": "ignore", "label": "deep pit", "name": "count", "sign": "<=", "number": 0.5, "zone": "z"}


@pytest.mark.parametrize(("values", "action", "zone"), [(ANY, "reject", None), (IGNORED, "ignore", "z")])
def test_a_composed_rule_is_read_by_the_parser(values: dict[str, Any], action: str, zone: str | None) -> None:
    rule = parse_rule(compose_rule(**values))
    assert (rule.action, rule.zone) == (action, zone)
    assert values["label"] in ("", *(operand.label for operand in rule.condition.values()))
