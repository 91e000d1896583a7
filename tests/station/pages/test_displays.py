"""Displays that never show a verdict as the present one where it is not, and alarms."""

import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from browser import NARROW, WIDE, Browser
from selenium.webdriver.common.keys import Keys
from station_helpers import HTTP, Server, picture

AGES_S = 3.0
GREY = "rgba(91, 107, 127, 1)"


@pytest.fixture(autouse=True)
def leave_the_page(browser: Browser) -> Iterator[None]:
    """A page that stays open logs that its station is gone, and the next test would read that."""
    yield
    browser.driver.get("about:blank")
    browser.driver.get_log("browser")


def send(server: Server, content: bytes, head: dict[str, str] | None = None, **fields: str) -> dict[str, Any]:
    answer = HTTP.post(f"{server.url}/v1/inspections", files={"image": ("x.png", content)}, data=fields, headers=head)
    assert answer.status_code == 200, answer.text
    return dict(answer.json())


def verdict(page: Browser) -> tuple[str, str]:
    badge = page.one("[data-name=verdict]")
    return badge.text, badge.value_of_css_property("background-color")


@pytest.fixture(scope="module")
def line(bundle_file: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A station that tests of its displays share."""
    folder = tmp_path_factory.mktemp("line")
    arguments = ("--watch", str(folder / "shots"), "--verdict-age-s", "1000")
    server = Server(folder / "s", "--bundle", str(bundle_file), *arguments)
    server.start()
    yield server
    server.kill()


def test_every_verdict_turns_grey_without_the_station(browser: Browser, serve: Callable[..., Server]) -> None:
    """A stopped station leaves its sockets open and answers nothing; a killed one closes them."""
    server = serve("s", "--verdict-age-s", "1000")
    part = send(server, picture(seed=1), part_id="first")
    first, tabs = browser.driver.current_window_handle, []
    for path in ("/", "/line", f"/card/{part['id']}"):
        browser.driver.switch_to.new_window("tab")
        tabs.append(browser.driver.current_window_handle)
        browser.open(server.url + path)
    try:
        for end in (lambda: server.send_signal(signal.SIGSTOP), server.kill):
            for tab in tabs:
                browser.driver.switch_to.window(tab)
                browser.until(lambda: verdict(browser) == ("PASS", "rgba(21, 128, 61, 1)"))
            end()
            for tab in tabs:
                browser.driver.switch_to.window(tab)
                browser.later(AGES_S)
                browser.until(lambda: verdict(browser)[0].startswith("no connection since "))
                assert verdict(browser)[1] == GREY
                states = browser.all("[data-name^=state-] .q-icon")
                assert bool(states) == (browser.driver.current_url == server.url + "/")
                assert not any(state.is_displayed() for state in states)  # no tick says that a component works
            server.send_signal(signal.SIGCONT)
    finally:
        server.send_signal(signal.SIGCONT)
        for tab in tabs:
            browser.driver.switch_to.window(tab)
            browser.driver.get_log("browser")
            browser.driver.close()
        browser.driver.switch_to.window(first)


def test_an_old_verdict_says_for_how_long_no_part_came(browser: Browser, line: Server) -> None:
    server = line
    send(server, picture(defect=True, seed=1))
    browser.open(server.url + "/line")
    browser.until(lambda: verdict(browser)[0] == "REJECT")
    browser.driver.execute_script("""
        window.realFetch = window.fetch;
        window.fetch = async (...request) => {
          const answer = await window.realFetch(...request), status = await answer.json();
          return Response.json({...status, last: {...status.last, age_s: status.last.age_s + 1001}});
        }""")
    browser.until(lambda: verdict(browser)[0].startswith("no part for 16:4"))
    assert verdict(browser)[1] == GREY
    browser.driver.execute_script("window.fetch = window.realFetch")
    send(server, picture(seed=2))
    browser.until(lambda: verdict(browser)[0] == "PASS")
    browser.check(server.url)


def test_the_age_of_the_newest_part_is_in_the_status(line: Server) -> None:
    send(line, picture(seed=20))
    first, second = (HTTP.get(f"{line.url}/v1/status").json()["last"] for _ in range(2))
    assert 0 <= first["age_s"] < second["age_s"]
    assert first["id"] == second["id"]


def test_a_lost_source_takes_the_place_of_the_verdict(browser: Browser, line: Server) -> None:
    shots = line.folder.parent / "shots"
    send(line, picture(seed=3))
    browser.open(line.url)
    browser.one("[data-name=state-source].ok", "folder shots")
    shots.rename(shots.with_name("gone"))
    browser.until(lambda: verdict(browser)[0] == "no image from folder shots")
    browser.one("[data-name=state-source].lost")
    browser.one("[data-name=alarm]", "Source folder shots gives no image")
    shots.with_name("gone").rename(shots)
    browser.one("[data-name=state-source].ok")
    send(line, picture(seed=4))
    browser.until(lambda: verdict(browser)[0] == "PASS")
    HTTP.post(f"{line.url}/v1/alarms/1/acknowledge")


def test_a_part_whose_picture_is_missing_is_reviewed_without_it(browser: Browser, serve: Callable[..., Server]) -> None:
    server = serve("s")
    for seed in range(2):
        send(server, picture(defect=True, seed=seed))
    for path in (server.folder / "images").rglob("*.png"):
        path.unlink()
    browser.open(server.url + "/review")
    for part in (1, 2):
        browser.one(".panel", f"part {part}")
        browser.one(".no-picture", "image not stored")
        assert browser.all(".mask-editor") == []
        browser.press("b", "h", "z", "g", Keys.ENTER)  # tools that are not there do nothing
        reviewed = f"{server.url}/v1/inspections/{part}"
        browser.until(lambda reviewed=reviewed: HTTP.get(reviewed).json()["reviews"])
    browser.one(".empty", "No parts to review")
    browser.check(server.url)


def test_a_browser_whose_token_is_revoked_goes_to_the_sign_in(browser: Browser, serve: Callable[..., Server]) -> None:
    server = serve("s")
    made = HTTP.post(f"{server.url}/v1/tokens", json={"name": "root", "role": "admin"})
    head = {"Authorization": f"Bearer {made.json()['token']}"}
    token = HTTP.post(f"{server.url}/v1/tokens", json={"name": "op", "role": "operator"}, headers=head).json()["token"]
    send(server, picture(seed=1), head)
    browser.open(f"{server.url}/login?next=/line")
    browser.fill("token", token + "\ue007")
    browser.until(lambda: verdict(browser)[0] == "PASS")
    HTTP.delete(f"{server.url}/v1/tokens/op", headers=head)
    browser.until(lambda: "/login?next=" in browser.driver.current_url)
    browser.driver.delete_all_cookies()
    browser.driver.get_log("browser")


def test_an_alarm_is_acknowledged_on_live(browser: Browser, line: Server) -> None:
    server = line
    for _ in range(2):
        send(server, picture(seed=7))
    browser.open(server.url)
    browser.one("[data-name=alarm]", "The same picture came again: SHA-256 ")
    browser.until(lambda: browser.one(".alarm-count").text == "1")
    browser.shoot("live-alarm")
    browser.open(server.url + "/line")
    browser.one("[data-name=line-alarms]", "The same picture came again: SHA-256 ")
    browser.shoot("line-alarm")
    browser.open(server.url)
    button = browser.one("[data-name=acknowledge]")
    for _ in range(2):
        send(server, picture(seed=8))
    browser.until(lambda: len(browser.all("[data-name=alarm]")) == 2)
    button.click()  # the very one of before: another alarm has not replaced it
    seen = browser.one(".alarm.seen", "acknowledged by local")
    assert seen == browser.all("[data-name=alarm]")[1]
    assert not button.is_displayed()
    newer, older = HTTP.get(f"{server.url}/v1/alarms").json()[:2]
    assert (older["kind"], older["acknowledged_by"], newer["acknowledged_by"]) == ("same_image", "local", None)
    assert HTTP.get(f"{server.url}/v1/audit?limit=1").json()[0]["action"] == "acknowledge"
    browser.click("[data-name=acknowledge]")
    browser.until(lambda: not browser.one("body").find_element("css selector", ".alarm-count").is_displayed())
    browser.open(server.url + "/line")
    browser.one("[data-name=verdict]")
    assert browser.all("[data-name=line-alarms]") == []


def test_a_page_that_connects_says_so_and_keeps_the_click(browser: Browser, line: Server) -> None:
    browser.open(line.url)
    browser.driver.execute_script("window.did_handshake = false")
    browser.one(".connection", "connecting …")
    browser.click("[data-name=line]")
    browser.driver.execute_script("window.did_handshake = true")
    browser.arrived("/line")
    browser.until(lambda: not any(e.text for e in browser.all(".connection")))


def test_the_menu_is_the_browser_s_own(browser: Browser, serve: Callable[..., Server]) -> None:
    """It opens and closes although the station is silent, as the width of the window asks for it."""
    server = serve("menu")
    browser.open(f"{server.url}/")
    assert browser.one(".menu-entry").is_displayed()
    browser.until(lambda: browser.driver.execute_script("return document.readyState === 'complete'"))
    server.send_signal(signal.SIGSTOP)
    try:
        browser.resize(*NARROW)
        browser.until(lambda: not any(entry.is_displayed() for entry in browser.all(".menu-entry")))
        browser.click(".lt-menu")
        browser.one(".menu-entry", "Review")
        browser.driver.execute_script("document.querySelector('.q-drawer__backdrop').click()")
        browser.until(lambda: not any(entry.is_displayed() for entry in browser.all(".menu-entry")))
        browser.resize(*WIDE)
        browser.one(".menu-entry", "Review")
        browser.until(lambda: not any(backdrop.is_displayed() for backdrop in browser.all(".q-drawer__backdrop")))
    finally:
        server.send_signal(signal.SIGCONT)
        browser.resize(*WIDE)


def test_the_line_display_and_the_sound(browser: Browser, line: Server) -> None:
    server = line
    send(server, picture(seed=11), part_id="one")
    browser.open(server.url + "/line")
    browser.one("[data-name=verdict]", "PASS")
    size = browser.driver.execute_script(
        "return parseFloat(getComputedStyle(document.querySelector('.line-verdict .standing')).fontSize)"
    )
    assert size > 0.14 * 900  # 5 m need a letter of 25 mm: on a screen 300 mm high a twelfth of its height
    browser.click("[data-name=sound]")
    beeps = "return Number(document.documentElement.dataset.sounded || 0)"
    browser.until(lambda: browser.driver.execute_script(beeps) == 1)  # it can be heard that it is on
    newest = send(server, picture(seed=12))["id"]
    browser.until(lambda: browser.one("[data-part]").get_attribute("data-part") == str(newest))
    assert browser.driver.execute_script(beeps) == 1
    send(server, picture(defect=True, seed=13))
    browser.until(lambda: browser.driver.execute_script(beeps) == 2)
    browser.click("[data-name=fullscreen]")
    browser.until(lambda: browser.driver.execute_script("return !!document.fullscreenElement"))
    browser.driver.execute_script("return document.exitFullscreen()")
    browser.shoot("line")
    recipe = HTTP.get(f"{server.url}/v1/recipes").json()[0]
    made = HTTP.post(f"{server.url}/v1/recipes", json={"name": "plates-B", "bundle": recipe["bundle"]}).json()
    HTTP.post(f"{server.url}/v1/recipes/{made['id']}/activate", json={"comment": "a trial"})
    browser.until(lambda: browser.one(".recipe-name").text == "plates-B v1")
    assert browser.one("[data-name=part-recipe]").text == f"recipe {recipe['name']} v1"  # that decided the part shown
    send(server, picture(seed=14))
    browser.until(lambda: browser.one("[data-name=part-recipe]").text == "recipe plates-B v1")
    send(server, picture(seed=15), recipe=recipe["name"])
    browser.until(lambda: browser.one("[data-name=part-recipe]").text == f"recipe {recipe['name']} v1")
    assert browser.one(".recipe-name").text == "plates-B v1"
    browser.driver.execute_script("localStorage.clear()")


def test_the_dark_theme_is_kept(browser: Browser, line: Server) -> None:
    server = line
    send(server, picture(defect=True, seed=14), lot="L1")
    browser.open(server.url)
    browser.click("[data-name=theme]")
    browser.one("body.body--dark .panel")
    browser.open(server.url + "/trace")
    browser.one("body.body--dark .panel")
    browser.open(server.url)
    browser.shoot("live-dark")
    browser.click("[data-name=theme]")
    browser.one("body:not(.body--dark) .panel")
