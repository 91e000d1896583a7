"""Texts in the reader's language.

English texts are in the code; they are the keys (`msgid`) of gettext catalogues,
`locale/LANGUAGE/LC_MESSAGES/blemish.po`. To add a language, add such a file; no Python changes.
"""

import re
import string
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Protocol

from blemish.errors import MissingExtraError, OptionError, unknown

ENGLISH = "en"
LOCALE = Path(__file__).with_name("locale")
ERROR = "error"  # msgctxt of the messages of errors, whose values stand as {0}, {1}, ...
_SHORTEST_LINE = 20  # characters beside the values of a text that filled-in lines are compared with
_LONGEST_ERROR = 1000  # characters; what is longer is the output of a program


class Translate(Protocol):
    def __call__(self, text: str, /, **values: object) -> str:
        """`text` in another language, with its `{placeholders}` filled from `values`.

        A text without a translation stays English. Without values nothing is filled in, so that a class may be
        called `{x}`.
        """
        ...

    def line(self, text: str) -> str:
        """A whole line, whose values are filled in already, as it comes from a file or a bundle."""
        ...


@dataclass(frozen=True)
class Message:
    """A text with the values of its placeholders: English as `str()`, any language by `translated`."""

    text: str
    values: Mapping[str, object] = field(default_factory=dict)

    def __str__(self) -> str:
        return self.text.format(**self.values) if self.values else self.text  # which may hold braces of an error

    def translated(self, t: "Translate") -> str:
        return t(self.text, **self.values)


def languages() -> list[str]:
    """The languages there are texts in, English first: one for every catalogue in `locale/`."""
    return [ENGLISH, *sorted(file.parents[1].name for file in LOCALE.glob("*/LC_MESSAGES/blemish.po"))]


def translator(language: str) -> Translate:
    """The function that translates to `language`; raises OptionError for a language without a catalogue."""
    return _Translator(language, _load_messages(language))


@dataclass(frozen=True)
class _Translator:
    language: str
    messages: Mapping[str, str]

    def __call__(self, text: str, /, **values: object) -> str:
        found = self.messages.get(text, text)
        return found.format(**values) if values else found

    def line(self, text: str) -> str:
        return self.messages.get(text) or translate_error(text, self.language)


def translate_error(error: object, language: str) -> str:
    """The message of an error in another language.

    Errors are raised in English, which logs and other programs read; here the message is compared with the catalogue's
    templates. Names and values stay as they are, an error within an error is translated too, and what no template
    matches stays English.
    """
    text = str(error)
    return text if language == ENGLISH or len(text) > _LONGEST_ERROR else _translated_error(text, language)


def _translated_error(text: str, language: str) -> str:
    for begin in (0, *(colon.end() for colon in re.finditer(": ", text))):  # such as behind the name of a file
        for literals, translation in _error_templates(language):
            if (values := _match(literals, text[begin:])) is not None:
                shown = [_shown(values, index, literals, language) for index in range(len(values))]
                return text[:begin] + translation.format(*shown)
    return text


def _shown(values: list[str], index: int, literals: list[str], language: str) -> str:
    """A value as it is shown: texts are translated, names are not. In quotes everything is a name; a single word is one
    too, but for what the message is about: `unknown class 'scratch'`."""
    value, before = values[index], literals[index]
    if before.endswith("'") or (" " not in value and (index or not before)):
        return value
    return _translated_error(value, language)


def _match(literals: list[str], text: str) -> list[str] | None:
    """What stands between the literals, each as early as possible; None where the text is none of this template."""
    if len(literals) == 1:
        return [] if text == literals[0] else None
    first, *others, last = literals
    position, end, values = len(first), len(text) - len(last), []
    if not text.startswith(first) or not text.endswith(last):
        return None
    if not first and ": " in text[: text.find(others[0] if others else last)]:
        return None  # what is before a colon belongs to no value, see `_translated_error`
    for literal in others:
        found = text.find(literal, position, end)
        if found < 0:
            return None
        values.append(text[position:found])
        position = found + len(literal)
    return [*values, text[position:end]] if position <= end else None


@cache
def _error_templates(language: str) -> list[tuple[list[str], str]]:
    """The literals of each template, a value between any two of them, and the translation; the longest first.

    Other texts with values are templates too, where they are long enough not to be mistaken for another.
    """
    found = []
    for context in (ERROR, None):
        for template, translation in _load_messages(language, context).items():
            literals, names = _split_template(template)
            if context == ERROR or (names and sum(map(len, literals)) >= _SHORTEST_LINE):
                own, order = _split_template(translation)
                pieces = [literal.replace("{", "{{").replace("}", "}}") for literal in own]
                places = [f"{{{names.index(name)}}}" for name in order] + [""]
                found.append((literals, "".join(map(str.__add__, pieces, places))))
    return sorted(found, key=lambda entry: -sum(map(len, entry[0])))


def _split_template(text: str) -> tuple[list[str], list[str]]:
    """The literals of a template, and the names of the values between them."""
    literals, names = [""], []
    for literal, name, _, _ in string.Formatter().parse(text):
        literals[-1] += literal
        if name is not None:
            literals.append("")
            names.append(name)
    return literals, names


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


def _load_messages(language: str, context: str | None = None) -> dict[str, str]:
    """The texts of one context and their translations."""
    return {text: translation for own, text, translation in _read_catalogue(language) if own == context}


@cache
def _read_catalogue(language: str) -> list[tuple[str | None, str, str]]:
    """Context, text and translation of every message; both kinds of texts are in one file, which is read once."""
    if language == ENGLISH:
        return []
    if language not in languages():
        raise OptionError(unknown("language", language, languages()))
    try:
        from babel.messages.pofile import read_po
    except ModuleNotFoundError as error:
        raise MissingExtraError("Babel is not installed; pip install 'blemish[report]'") from error
    with (LOCALE / language / "LC_MESSAGES" / "blemish.po").open("rb") as stream:
        catalogue = read_po(stream, locale=language)
    return [(m.context, str(m.id), str(m.string)) for m in catalogue if m.id and m.string and not m.fuzzy]
