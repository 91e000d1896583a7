"""Texts in the reader's language.

English texts are in the code; they are the keys (`msgid`) of gettext catalogues,
`locale/LANGUAGE/LC_MESSAGES/blemish.po`. To add a language, add such a file; no Python changes.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Protocol

from blemish.errors import MissingExtraError, OptionError, unknown

ENGLISH = "en"
LOCALE = Path(__file__).with_name("locale")


class Translate(Protocol):
    def __call__(self, text: str, /, **values: object) -> str:
        """`text` in another language, with its `{placeholders}` filled from `values`.

        A text without a translation stays English. Without values nothing is filled in, so that a class may be
        called `{x}`.
        """
        ...


@dataclass(frozen=True)
class Message:
    """A text with the values of its placeholders: English as `str()`, any language by `translated`."""

    text: str
    values: Mapping[str, object] = field(default_factory=dict)

    def __str__(self) -> str:
        return self.text.format(**self.values)

    def translated(self, t: "Translate") -> str:
        return t(self.text, **self.values)


def languages() -> list[str]:
    """The languages there are texts in, English first: one for every catalogue in `locale/`."""
    return [ENGLISH, *sorted(file.parents[1].name for file in LOCALE.glob("*/LC_MESSAGES/blemish.po"))]


def translator(language: str) -> Translate:
    """The function that translates to `language`; raises OptionError for a language without a catalogue."""
    messages = _load_messages(language)

    def translate(text: str, /, **values: object) -> str:
        found = messages.get(text, text)
        return found.format(**values) if values else found

    return translate


def negotiate_language(accepted: str) -> str:
    """The language to answer in, by the header Accept-Language of a request: `zh-CN,zh;q=0.9,en;q=0.8` -> `zh`.

    Browsers send it with the preferred language first, so the weights are not read.
    """
    tags = (entry.strip().partition(";")[0].partition("-")[0].lower() for entry in accepted.split(","))
    return next((tag for tag in tags if tag in languages()), ENGLISH)


def language_name(language: str) -> str:
    """The name of a language in itself: `English`, `中文`."""
    from babel import Locale

    return Locale.parse(language).display_name or language


@cache
def _load_messages(language: str) -> dict[str, str]:
    if language == ENGLISH:
        return {}
    if language not in languages():
        raise OptionError(unknown("language", language, languages()))
    try:
        from babel.messages.pofile import read_po
    except ModuleNotFoundError as error:
        raise MissingExtraError("Babel is not installed; pip install 'blemish[report]'") from error
    with (LOCALE / language / "LC_MESSAGES" / "blemish.po").open("rb") as stream:
        catalogue = read_po(stream, locale=language)
    return {str(m.id): str(m.string) for m in catalogue if m.id and m.string and not m.fuzzy}
