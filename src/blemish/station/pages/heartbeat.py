"""The script on every page that shows whether it is still connected, and whether its verdict is the present one."""

import json
from pathlib import Path

from nicegui import ui

from blemish.station.pages.session import PageSession

SCRIPT = Path(__file__).with_name("heartbeat.js").read_text(encoding="utf-8")
TEXTS = {
    "offline": "no connection since {value}",
    "idle": "no part for {value}",
    "behind": "display delayed",
    "database": "database lost",
    "engine": "no verdicts: inspection fails",
    "station": "another station uses its name",
    "source": "no image from {value}",
    "line": "line {value} is down",
    "no_recipe": "no recipe",
    "connecting": "connecting …",
}


def add_heartbeat(page: PageSession) -> None:
    config = {
        "texts": {name: page.t(text) for name, text in TEXTS.items()},
        "verdict_age_s": page.station.settings.verdict_age_s,
    }
    literal = json.dumps(config).replace("<", "\\u003c")
    ui.add_head_html(f"<script>{SCRIPT.replace('CONFIG', literal, 1)}</script>")


def sound_button(page: PageSession) -> None:
    """Switches the sound on reject; kept by the browser."""
    with ui.button().props("flat dense no-caps data-name=sound").on("click", js_handler="() => blemishSound()"):
        for state, icon in (("on", "volume_up"), ("off", "volume_off")):
            with ui.element("span").classes(f"sound-{state}"):
                ui.icon(icon, size="20px")
        ui.label(page.t("Sound on reject")).style("margin-left: 6px")
