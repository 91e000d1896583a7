"""A headless Chromium for the tests of pages."""

import os
import shutil
import time
from collections.abc import Callable, Sequence
from itertools import pairwise
from pathlib import Path
from typing import TypeVar
from urllib.parse import urlsplit

import pytest
from selenium import webdriver
from selenium.common.exceptions import ElementClickInterceptedException, StaleElementReferenceException
from selenium.webdriver.chrome.options import Options
from selenium.webdriver.chrome.service import Service
from selenium.webdriver.common.action_chains import ActionChains
from selenium.webdriver.common.by import By
from selenium.webdriver.remote.webelement import WebElement

SHOTS = Path(__file__).parents[2] / "build" / "screenshots"
# A picture beside the window, in a strip that scrolls, is loaded when it comes into view.
LOADED = "arguments[0].complete || arguments[0].getBoundingClientRect().left > window.innerWidth"
PAINTED = """
const canvas = document.querySelector('.mask-editor canvas');
const pixels = canvas.getContext('2d').getImageData(0, 0, canvas.width, canvas.height);
return pixels.data.filter((value, i) => i % 4 === 3 && value > 127).length"""
WIDE, NARROW, HUGE = (1280, 900), (390, 844), (2560, 1440)
Found = TypeVar("Found")


class Browser:
    """One window; every page must load from the station only, fit the window and log no error."""

    def __init__(self) -> None:
        chromium = shutil.which("chromium") or shutil.which("chromium-browser")
        driver = shutil.which("chromedriver")
        if chromium is None or driver is None:
            pytest.skip("no chromium with chromedriver here (Debian: apt install chromium chromium-driver)")
        options = Options()
        options.binary_location = chromium
        for argument in (
            "--headless=new",
            "--disable-gpu",
            "--disable-dev-shm-usage",
            "--hide-scrollbars",
            "--lang=en",
            "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1",  # no page needs the internet
            *(["--no-sandbox"] if hasattr(os, "geteuid") and os.geteuid() == 0 else []),
        ):
            options.add_argument(argument)
        options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
        self.driver = webdriver.Chrome(options=options, service=Service(driver))
        self.resize(*WIDE)

    def resize(self, width: int, height: int) -> None:
        metrics = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 600}
        self.driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)

    def open(self, url: str) -> None:
        if urlsplit(self.driver.current_url).netloc != urlsplit(url).netloc:
            # What the page of another test's station says after that station's end is not about this one.
            self.driver.get("about:blank")
            self.driver.get_log("browser")
        self.driver.get(url)
        self.until(lambda: self.driver.execute_script("return !!window.did_handshake"))  # clicks before it are lost

    def arrived(self, address: str) -> None:
        """Wait for another page, to which a click led, until it takes clicks."""
        self.until(lambda: address in self.driver.current_url)
        self.until(lambda: self.driver.execute_script("return !!window.did_handshake"))

    def all(self, selector: str) -> list[WebElement]:
        return self.driver.find_elements(By.CSS_SELECTOR, selector)

    def one(self, selector: str, text: str = "") -> WebElement:
        """The first visible element with the text; waits until there is one."""
        return self.until(lambda: next((e for e in self.all(selector) if text in e.text and e.is_displayed()), None))

    def click(self, selector: str, text: str = "") -> None:
        def clicked() -> bool:
            element = self.one(selector, text)
            self.driver.execute_script("arguments[0].scrollIntoView({block: 'center'})", element)
            element.click()
            return True

        self.until(clicked)

    def fill(self, name: str, text: str) -> None:
        field = self.one(f"[data-name={name}]")
        field = (
            field if field.tag_name in ("input", "textarea") else field.find_element(By.CSS_SELECTOR, "input,textarea")
        )
        field.send_keys(text)

    def press(self, *keys: str) -> None:
        for key in keys:
            ActionChains(self.driver).send_keys(key).perform()

    def drag(self, element: WebElement, start: tuple[float, float], *way: tuple[float, float]) -> None:
        """Drag with the pointer held down, over points given as shares of the element's size."""
        box = element.rect
        at = [(round((x - 0.5) * box["width"]), round((y - 0.5) * box["height"])) for x, y in (start, *way)]
        chain = ActionChains(self.driver, duration=50).move_to_element_with_offset(element, *at[0]).click_and_hold()
        for (x0, y0), (x1, y1) in pairwise(at):
            chain.move_by_offset(x1 - x0, y1 - y0)
        chain.release().perform()

    def painted_pixels(self) -> int:
        """Pixels of the mask that is edited."""
        return int(self.driver.execute_script(PAINTED))

    def later(self, seconds: float) -> None:
        """Set the clock of the page forward, by which it tells for how long the station has said nothing."""
        self.driver.execute_script(
            "const real = Date.now.bind(Date); Date.now = () => real() + 1000 * arguments[0]", seconds
        )

    def until(self, found: Callable[[], Found | None], seconds: float = 90, what: str = "it") -> Found:
        deadline = time.monotonic() + seconds
        while True:
            reason = ""
            try:
                if result := found():
                    return result
            except (StaleElementReferenceException, ElementClickInterceptedException) as error:
                reason = f" ({error.msg})"
            if time.monotonic() > deadline:
                SHOTS.mkdir(parents=True, exist_ok=True)
                self.driver.save_screenshot(str(SHOTS / "failed.png"))
                log = "\n".join(line["message"] for line in self.driver.get_log("browser"))
                where = f"the page {self.driver.current_url} is in {SHOTS / 'failed.png'}"
                raise AssertionError(f"{what} did not come about{reason}; {where}\n{log}")
            time.sleep(0.05)

    def shoot(self, name: str, sizes: Sequence[tuple[int, int]] = (NARROW, WIDE)) -> None:
        """At each size of the window the page must not be wider than it. BLEMISH_SHOTS=1 saves screenshots of it."""
        for width, height in sizes:
            self.resize(width, height)
            self.until(lambda: all(self.driver.execute_script(f"return {LOADED}", e) for e in self.all("img")))
            # Charts follow the window with a delay.
            self.until(lambda most=width: self._extent("scrollWidth") <= most, 10, f"{name} fits {width} px")
            kept = os.environ.get("BLEMISH_SHOTS")
            time.sleep(0.35 if kept else 0.1)  # charts and the menu settle
            found = self._extent("scrollWidth")
            assert found <= width, f"{name} is {found} px wide at {width}"
            if kept:
                SHOTS.mkdir(parents=True, exist_ok=True)
                self.resize(width, min(max(height, self._extent("scrollHeight")), 3000))
                self.driver.save_screenshot(str(SHOTS / f"{name}-{width}.png"))
        self.resize(*WIDE)

    def _extent(self, name: str) -> int:
        return int(self.driver.execute_script(f"return document.documentElement.{name}"))

    def check(self, url: str) -> None:
        """Everything was loaded from the station, and no error was logged."""
        names = self.driver.execute_script("return performance.getEntriesByType('resource').map((e) => e.name)")
        assert [name for name in names if not name.startswith((url, "data:", "blob:"))] == []
        log = [line["message"] for line in self.driver.get_log("browser") if line["level"] == "SEVERE"]
        assert not log, "\n".join(log)
