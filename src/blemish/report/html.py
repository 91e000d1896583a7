"""Self-contained HTML pages from the templates of this folder, in the reader's language."""

from importlib.util import find_spec
from pathlib import Path
from typing import Any

from blemish.errors import MissingExtraError
from blemish.report.formatting import duration, number, percent, plain
from blemish.translation import ENGLISH, translator

TEMPLATES = Path(__file__).parent / "templates"


def render_template(name: str, language: str = ENGLISH, **values: Any) -> str:
    """A page in which nothing is fetched from elsewhere; templates call `t("text", ...)` for the reader's language.

    Raises MissingExtraError where matplotlib or Jinja2 is not installed, OptionError for an unknown language.
    """
    check_installed()
    import jinja2

    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(TEMPLATES),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    t = translator(language)

    def interval(estimate: dict[str, Any]) -> str:
        return t("{low} to {high}", low=percent(estimate["low"]), high=percent(estimate["high"]))

    def say(message: dict[str, Any]) -> str:
        """A `translation.Message` as plain data."""
        values = {name: t(value) if isinstance(value, str) else value for name, value in message["values"].items()}
        return t(message["text"], **values)

    environment.filters |= {
        "percent": percent, "interval": interval, "number": number, "plain": plain, "duration": duration,
    }  # fmt: skip
    return environment.get_template(name).render(t=t, say=say, language=language, **values)


def check_installed() -> None:
    """Raises MissingExtraError where matplotlib or Jinja2 is not installed."""
    for name in ("jinja2", "matplotlib"):
        if find_spec(name) is None:
            raise MissingExtraError(f"{name} is not installed; pip install 'blemish[report]'")
