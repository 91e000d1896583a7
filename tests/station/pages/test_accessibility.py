"""Every page against axe-core's rules, and at the widths of a phone and of a large screen."""

import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
from browser import HUGE, NARROW, Browser
from station_helpers import HTTP, ServerMaker, picture

from blemish.station.pages.layout import MENU

AXE = "axe-core@4.10.3"  # MPL-2.0; a tool of this test, and no part of what ships
RUN = "const done = arguments[arguments.length - 1]; axe.run({resultTypes: ['violations']}).then(done)"
FOLDER = Path(__file__).parents[3] / "build" / "npm"


@pytest.fixture(scope="module")
def axe() -> str:
    """The script of axe-core, installed by npm once."""
    file = FOLDER / "node_modules" / "axe-core" / "axe.min.js"
    if not file.exists():
        if shutil.which("npm") is None:
            pytest.skip("no npm here, which installs axe-core (Debian: apt install npm)")
        command = ["npm", "install", "--no-save", "--no-audit", "--no-fund", "--prefix", str(FOLDER), AXE]
        FOLDER.mkdir(parents=True, exist_ok=True)
        done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
        if done.returncode:
            pytest.skip(f"npm could not install {AXE}: {done.stderr.strip()[-200:]}")
    return file.read_text(encoding="utf-8")


@pytest.mark.slow
def test_no_page_has_a_serious_fault_for_keyboards_and_screen_readers(
    browser: Browser, serve: ServerMaker, axe: str, tmp_path: Path
) -> None:
    images = tmp_path / "images"
    images.mkdir()
    server = serve("s", "--images", str(images))
    for seed in range(12):
        content = picture(defect=seed % 3 == 0, seed=seed)
        (images / f"{seed}.png").write_bytes(content)
        fields = {"part_id": f"p{seed}", "lot": f"L{seed % 3}"}
        HTTP.post(f"{server.url}/v1/inspections", files={"image": ("x.png", content)}, data=fields)
    for part in (1, 2, 3):
        HTTP.post(f"{server.url}/v1/inspections/{part}/reviews", json={"label": "scratch" if part == 1 else "good"})
    found: list[str] = []
    browser.driver.set_script_timeout(120)

    def check(name: str) -> None:
        browser.driver.execute_script(axe)
        result: dict[str, Any] = browser.driver.execute_async_script(RUN)
        found.extend(
            f"{name}: {fault['id']}: {fault['nodes'][0]['html'][:200]}"
            for fault in result["violations"]
            if fault["impact"] in ("serious", "critical")
        )
        browser.shoot(f"axe-{name.strip('/').replace('/', '-') or 'live'}", (NARROW, HUGE))

    for path in [path for path, _, _ in MENU] + ["/card/1", "/dead-letters", "/line", "/login"]:
        browser.open(server.url + path)
        browser.until(lambda: browser.all(".panel, .empty, .line-page"))
        check(path)
    browser.open(f"{server.url}/labelling")
    browser.click("[data-name=open]")
    browser.arrived("project=images")
    browser.one("[data-name=images] .thumb")
    check("/labelling/images")
    browser.click("[data-name=label-these]")
    browser.one(".mask-editor")
    check("/labelling/editor")
    assert found == []
    browser.check(server.url)
