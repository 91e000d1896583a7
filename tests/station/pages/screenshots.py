"""Screenshots of every page of a station with parts, in every language, at 390, 1,280 and 2,560 px.

    python tests/station/pages/screenshots.py --bundle demo/run/run.blemish --data demo/data --out DIR [--docs]

`--data` is an annotated data set whose test images are sent as parts. `--docs` renews docs/images/station-*.png.
"""

import argparse
import os
import shutil
import sys
import tempfile
from pathlib import Path

import httpx

sys.path.insert(0, str(Path(__file__).parents[1]))

import browser as browsers
from browser import HUGE, NARROW, WIDE, Browser
from station_helpers import Server, put_decision

from blemish.dataset.read import read_dataset
from blemish.dataset.sample import GOOD
from blemish.station.pages.layout import MENU
from blemish.station.pages.session import LANGUAGE_COOKIE
from blemish.translation import languages

DOCS = Path(__file__).parents[3] / "docs" / "images"
IN_DOCS = {"live": "station-live", "review": "station-review", "rules": "station-rules"}
MAX_DEFECTIVE = 15


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--bundle", type=Path, required=True)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--docs", action="store_true")
    parser.add_argument("--languages", nargs="+", default=languages())
    given = parser.parse_args()
    browsers.SHOTS = given.out
    os.environ["BLEMISH_SHOTS"] = "1"
    with tempfile.TemporaryDirectory() as folder:
        server = Server(
            Path(folder) / "station",
            "--bundle",
            str(given.bundle),
            "--images",
            str(given.data.resolve()),
            "--verdict-age-s",
            "100000",
        )
        server.start()
        window = Browser()
        try:
            client = httpx.Client(base_url=server.url, trust_env=False, timeout=120)
            send_parts(client, given.data)
            for language in given.languages:
                shoot_pages(window, server.url, language, given.data.resolve())
        finally:
            window.driver.quit()
            server.end()
    if given.docs:
        for name, target in IN_DOCS.items():
            shutil.copyfile(given.out / f"{name}-en-1280.png", DOCS / f"{target}.png")


def send_parts(client: httpx.Client, data: Path) -> None:
    """Parts in three lots; three of four are reviewed, as their annotation says, and the first of them are golden."""
    samples = [sample for sample in read_dataset(data).samples if sample.split in (None, "test")]
    good = [sample for sample in samples if sample.label == GOOD]
    defective = [sample for sample in samples if sample.label != GOOD][:: max(1, len(samples) // MAX_DEFECTIVE)]
    each = max(1, len(good) // max(1, len(defective)))
    mixed = [part for n, bad in enumerate(defective) for part in (*good[n * each : (n + 1) * each], bad)]
    for number, sample in enumerate(mixed):
        fields = {"part_id": f"A-{number + 101}", "lot": f"2024-{3 * number // len(mixed) + 1:02d}"}
        answer = client.post("/v1/inspections", files={"image": sample.image.read_bytes()}, data=fields).json()
        if number % 4 and sample.label is not None:  # no multiple of the order, so that rejects wait for a review too
            client.post(f"/v1/inspections/{answer['id']}/reviews", json={"label": sample.label})
            if number < 12:
                client.put(f"/v1/golden/{answer['id']}", json={"label": sample.label})
    decision = client.get("/v1/decision").json()
    put_decision(client, decision | {"reject": 1.2 * decision["reject"]}, comment="fewer rejects")


def shoot_pages(window: Browser, url: str, language: str, data: Path) -> None:
    window.open(url)
    window.driver.add_cookie({"name": LANGUAGE_COOKIE, "value": language})
    paths = {path.strip("/") or "live": path for path, _, _ in MENU}
    paths |= {
        "card": "/card/2",
        "line": "/line",
        "dead-letters": "/dead-letters",
        "reference": "/reference",
        "login": "/login",
    }
    for name, path in paths.items():
        window.open(url + path)
        window.until(lambda: window.all(".panel, .empty, .line-page"))
        if name == "rules":
            window.click("[data-name=add-zone]")
            window.until(lambda: window.all("[data-point]"))
        shoot(window, f"{name}-{language}")
    window.open(f"{url}/training?path={data}")
    window.one("[data-name=gallery] .thumb")
    shoot(window, f"training-data-{language}")
    window.click("[data-name=advise]")
    window.until(lambda: window.all("[data-name=advice] tr"), 200)
    window.click("[data-name=use-method]")
    window.click("[data-name=options-panel] .q-item")
    window.one("[data-name=option-form]")
    shoot(window, f"training-form-{language}")
    for name in ("compare-recipes", "offer-golden", "cameras"):
        window.open(f"{url}/training")
        window.click(f"[data-name={name}]")
        window.one(".q-dialog .panel-title")
        shoot(window, f"{name}-{language}")
    window.driver.get(f"{url}/nowhere")
    shoot(window, f"no-such-page-{language}")
    window.open(f"{url}/labelling")
    window.click("[data-name=open]")
    window.arrived("project=")
    window.one("[data-name=images] .thumb")
    shoot(window, f"labelling-project-{language}")
    window.click("[data-name=images] .thumb:nth-child(5) button")
    window.one("[data-name=proposed]:not(:empty)")
    shoot(window, f"labelling-editor-{language}")
    for tab in ("book", "agreement", "export"):
        window.click(f"[data-name=tab-{tab}]")
        shoot(window, f"labelling-{tab}-{language}")
    window.open(f"{url}/trends")
    window.click("[data-name=help]")
    window.one("[data-name=help-text]")
    shoot(window, f"help-{language}")


def shoot(window: Browser, name: str) -> None:
    window.shoot(name, (NARROW, WIDE, HUGE))


if __name__ == "__main__":
    main()
