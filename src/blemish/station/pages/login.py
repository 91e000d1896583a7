"""Sign-in with a token, or with name and password."""

from fastapi import Request
from nicegui import ui

from blemish.station.pages.layout import DARK_PRIMARY, PRIMARY, STYLE, language_buttons
from blemish.station.pages.session import open_session
from blemish.station.pages.widgets import div
from blemish.station.station import Station

# It goes to the REST API, whose response sets a cookie that no script can read.
_SIGN_IN = """async () => {
  const shown = document.getElementById('sign-in-problem');
  try {
    const body = new FormData();
    const name = document.querySelector('.user-name input').value.trim();
    const secret = document.querySelector('.token input').value;
    if (name) { body.append('name', name); body.append('password', secret); }
    else body.append('token', secret.trim());
    const answer = await fetch('/v1/session', {method: 'POST', body});
    if (answer.ok) location.assign(NEXT);
    else shown.textContent = answer.status === 429 ? TOO_MANY : name ? WRONG : REFUSED;
  } catch { shown.textContent = AWAY; }
}"""


def add(station: Station) -> None:
    @ui.page("/login")
    def login(request: Request) -> None:
        session = open_session(station, request)
        t = session.t
        ui.page_title(f"{t('Sign in')} · blemish")
        ui.dark_mode(session.dark)
        ui.add_head_html(f"<script>document.documentElement.lang = '{session.language}'</script>")
        script = (
            _SIGN_IN.replace("NEXT", repr(_own_path(request.query_params.get("next", "/"))))
            .replace("REFUSED", repr(t("Invalid or revoked token.")))
            .replace("WRONG", repr(t("Wrong name or password.")))
            .replace("TOO_MANY", repr(t("Too many failed attempts; wait a moment.")))
            .replace("AWAY", repr(t("The station does not answer.")))
        )
        ui.add_css(STYLE)
        ui.colors(primary=DARK_PRIMARY if session.dark else PRIMARY)
        page = ui.column().classes("page").style("max-width: 420px; padding-top: 12vh")
        with page, ui.element("section").classes("panel"):
            ui.label("blemish").style("font-size: 26px; font-weight: 700")
            ui.label(t("Sign in with your name and password, or with a token alone.")).classes("soft")
            name = ui.input(t("Name")).props('outlined data-name=user-name autocomplete="username"')
            name.classes("user-name").on("keydown.enter", js_handler=script)
            field = ui.input(t("Password or token"), password=True, password_toggle_button=True)
            field.props('autofocus outlined data-name=token autocomplete="current-password"').classes("token")
            field.on("keydown.enter", js_handler=script)
            ui.button(t("Sign in")).props("no-caps").on("click", js_handler=script)
            ui.html('<div id="sign-in-problem" role="alert" style="color:#dc2626"></div>', sanitize=False)
            with div("bar"):
                ui.space()
                language_buttons(session.language, "primary")


def _own_path(path: str) -> str:
    """The path if it belongs to this station, never that of another site."""
    plain = path.isascii() and path.startswith("/") and not path.startswith("//")
    return path if plain and not set(path) & set("\\'\"<>`") else "/"
