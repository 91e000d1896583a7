"""From a folder of unlabelled images to a trained, promoted bundle, by hand movements alone."""

from pathlib import Path

import cv2
import numpy as np
import pytest
from browser import Browser
from selenium.webdriver.common.keys import Keys
from station_helpers import HTTP, ServerMaker

SIDE, GOOD_IMAGES, BAD_IMAGES = 64, 24, 4


def surface(seed: int, defect: bool) -> bytes:
    """A noisy surface, perhaps with a bright dent of 16 × 12 px in its middle."""
    image = np.random.default_rng(seed).normal(90, 8, (SIDE, SIDE))
    if defect:
        image[26:38, 24:40] += 110
    return bytes(cv2.imencode(".png", image.clip(0, 255).astype(np.uint8))[1])


@pytest.mark.slow
def test_an_unlabelled_folder_becomes_a_promoted_bundle(browser: Browser, serve: ServerMaker, tmp_path: Path) -> None:
    folder = tmp_path / "dents"
    folder.mkdir()
    for index in range(GOOD_IMAGES + BAD_IMAGES):
        (folder / f"{index:02d}.png").write_bytes(surface(index, index >= GOOD_IMAGES))
    server = serve("s", "--images", str(folder))
    browser.open(f"{server.url}/labelling")
    browser.click("[data-name=open]")
    browser.arrived("project=dents")
    browser.click("[data-name=label-these]")
    for index in range(GOOD_IMAGES):
        browser.one(".panel-title", f"{index:02d}.png")
        browser.press("g", Keys.ENTER)
    for index in range(GOOD_IMAGES, GOOD_IMAGES + BAD_IMAGES):
        browser.one(".panel-title", f"{index:02d}.png")
        canvas = browser.until(lambda: (browser.all(".mask-editor canvas") or [None, None])[1])
        browser.until(lambda canvas=canvas: canvas.get_attribute("width") == str(SIDE))
        browser.press("x")
        browser.one("[data-name=tools] .bg-primary", "Box")
        browser.drag(canvas, (0.3, 0.33), (0.7, 0.67))
        browser.until(lambda: browser.one("[data-name=classes] .bg-primary", "defect"))
        browser.until(lambda: browser.painted_pixels() > 100)
        browser.press(Keys.ENTER)
    browser.one("[data-name=images] .thumb")
    browser.click("[data-name=tab-export]")
    browser.click("[data-name=write]:not([disabled])")
    browser.click("[data-name=train-with-it]")
    browser.arrived("/training")
    browser.one("[data-name=gallery] .thumb")
    browser.until(lambda: not browser.all("[data-name=methods][disabled], .q-field--disabled [data-name=methods]"), 300)
    browser.click("[data-name=methods]")
    browser.click(".q-menu .q-item", "patchcore:")
    browser.press(Keys.ESCAPE)
    browser.click("[data-name=options-panel] .q-item")
    ratio = browser.one("[data-name=option-coreset_ratio]")
    ratio = ratio if ratio.tag_name == "input" else ratio.find_element("css selector", "input")
    ratio.send_keys(Keys.CONTROL + "a")
    ratio.send_keys("0.05" + Keys.TAB)
    browser.click("[data-name=start]:not([disabled])")
    browser.one("[data-name=job-running]", "patchcore · ")
    browser.until(lambda: browser.all("[data-name=job-done]") or browser.all("[data-name=job-failed]"), seconds=500)
    assert browser.all("[data-name=job-done]"), browser.one("[data-name=job-failed]").text
    browser.click("[data-name=promote]")
    browser.click("[data-name=promote-now]")
    # The first version is active from the start, so that alone says nothing.
    browser.until(lambda: any(r["active"] and r["version"] == 2 for r in HTTP.get(f"{server.url}/v1/recipes").json()))
    sent = [
        HTTP.post(
            f"{server.url}/v1/inspections", files={"image": ("x.png", surface(1000 + defect, bool(defect)))}
        ).json()
        for defect in range(2)
    ]
    assert sent[1]["verdict"] == "reject"
    assert sent[0]["score"] < sent[1]["score"]
    assert sent[1]["recipe"]["version"] == 2
    browser.check(server.url)
