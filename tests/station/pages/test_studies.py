"""Gauge studies on the pages, used in a headless Chromium."""

from collections.abc import Callable

from browser import Browser
from selenium.webdriver.common.keys import Keys
from station_helpers import HTTP, Server, picture


def make(browser: Browser, server: Server, name: str, kind: str, parts: str) -> None:
    browser.open(f"{server.url}/studies")
    browser.fill("study-name", name)
    if kind:
        browser.click("[data-name=study-kind]")
        browser.click(".q-item", kind)
    else:
        browser.click("[data-name=study-recorded]")
    browser.one("[data-name=study-parts]")
    browser.fill("study-parts", parts)
    browser.fill("study-appraisers", "anna, ben")
    browser.fill("study-repeats", Keys.BACKSPACE + "2")
    browser.shoot("study-form")
    browser.click("[data-name=make-study]")
    browser.click("[data-name=appraiser]", "anna")


def test_people_judge_parts_and_the_station_s_verdicts_are_taken(
    browser: Browser, serve: Callable[..., Server]
) -> None:
    server = serve("studies")
    make(browser, server, "people", "", "p1 = pass\np2 = reject")
    for name in ("anna", "ben"):
        if name == "ben":
            browser.one(".empty", "All trials of anna are done")
            browser.click("[data-name=another]")
            browser.click("[data-name=appraiser]", name)
        for left in range(4, 0, -1):
            browser.one("[data-name=trial]", f"Trials left for {name}: {left}")
            part = browser.one("[data-name=asked]").text
            browser.press("p" if part == "Part p1" else "r")
        browser.one(".empty", f"All trials of {name} are done")
    browser.one(".panel", "Analysis")
    browser.one("td", "acceptable")
    browser.shoot("study-people")
    browser.check(server.url)

    make(browser, server, "verdicts", "The station's verdict", "s1\ns2")
    seed = 0
    for name in ("anna", "ben"):
        if name == "ben":
            browser.one(".empty", "All trials of anna are done")
            browser.click("[data-name=another]")
            browser.click("[data-name=appraiser]", name)
        for left in range(4, 0, -1):
            browser.one("[data-name=trial]", f"Trials left for {name}: {left}")
            browser.one("[data-name=waiting]")
            part = browser.one("[data-name=asked]").text.removeprefix("Part ")
            if left == 4:  # another part came first
                seed += 1
                files = {"image": ("x.png", picture(seed=seed))}
                HTTP.post(f"{server.url}/v1/inspections", files=files, data={"part_id": "other"})
                browser.one(".alarm", f"This is part other, asked for is part {part}.")
                browser.click("[data-name=again]")
                browser.one("[data-name=waiting]")
            seed += 1
            files = {"image": ("x.png", picture(defect=part == "s2", seed=seed))}
            HTTP.post(f"{server.url}/v1/inspections", files=files, data={"part_id": part})
            browser.click("[data-name=take]")
    browser.one(".panel", "Analysis")
    browser.shoot("study-station")
    browser.check(server.url)
    found = HTTP.get(f"{server.url}/v1/studies/2/analysis").json()["attribute"]
    assert (found["between"]["value"], found["between_kappa"]["value"]) == (1, 1)
    browser.open(f"{server.url}/studies")
    browser.one("[data-name=study]", "8 of 8 trials")
