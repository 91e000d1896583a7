"""The gettext catalogues: complete, with the placeholders of their texts, and without texts that nothing uses."""

import ast
import re
import string
from collections.abc import Iterator
from itertools import count
from pathlib import Path
from types import SimpleNamespace
from typing import Literal, cast

import pytest
from babel.messages.catalog import Catalog
from babel.messages.extract import extract_from_dir
from babel.messages.pofile import read_po

import blemish
from blemish import translation
from blemish.dataset import duplicates
from blemish.dataset.read import FORMATS
from blemish.dataset.sample import Sample
from blemish.dataset.split import SharedUnit, describe_shared
from blemish.errors import OptionError
from blemish.evaluation.pod_result import PROBLEM_TEXTS
from blemish.evaluation.pod_sweep import _Sweep, _warnings
from blemish.inspection.bundle import CHANGED
from blemish.methods.catalogue import list_methods, method_class
from blemish.qualify.robustness import describe_doubts
from blemish.training.advice.rules import RULES
from blemish.training.ship.calibrate import NO_VALIDATION, CalibrationTarget, UnitScores, _explain_too_few, calibrate
from blemish.training.ship.calibration_data import CalibrationData
from blemish.translation import Message, language_name, languages, negotiate_language, translate_error, translator

SOURCE = Path(blemish.__file__).parent
TRANSLATED = [language for language in languages() if language != translation.ENGLISH]
PROGRAMMING = ("TypeError", "AttributeError", "RuntimeError", "OSError")
METHODS = [("**.py", "python"), ("**.html", "jinja2.ext:babel_extract")]


@pytest.fixture(params=TRANSLATED)
def catalogue(request: pytest.FixtureRequest) -> Catalog:
    file = translation.LOCALE / request.param / "LC_MESSAGES" / "blemish.po"
    with file.open("rb") as stream:
        return read_po(stream, abort_invalid=True)


def placeholders(text: str) -> set[str]:
    return {name for _, name, _, _ in string.Formatter().parse(text) if name}


def template(node: ast.expr) -> str | None:
    """A text of the source with its values as {0}, {1}, ...; None where the expression is no text."""
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        return node.value.replace("{", "{{").replace("}", "}}")
    if not isinstance(node, ast.JoinedStr):
        return None
    numbers = count()
    return "".join(template(part) or f"{{{next(numbers)}}}" for part in node.values)


def templates(node: ast.expr) -> list[str]:
    """Of both sides of a choice."""
    if isinstance(node, ast.IfExp):
        return templates(node.body) + templates(node.orelse)
    text = template(node)
    return [] if text is None else [text]


def source_nodes() -> Iterator[tuple[Path, ast.AST]]:
    for file in sorted(SOURCE.rglob("*.py")):
        yield from ((file, node) for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))))


def raised_texts() -> set[str]:
    """Templates of the errors that a page may show: of all but the command line and programmers' mistakes."""
    found = set()
    for file, node in source_nodes():
        if file.is_relative_to(SOURCE / "cli") or not isinstance(node, ast.Raise) or not isinstance(node.exc, ast.Call):
            continue
        name = getattr(node.exc.func, "id", getattr(node.exc.func, "attr", ""))
        if name.endswith("Error") and name not in PROGRAMMING and node.exc.args:
            for text in templates(node.exc.args[0]):
                if any(literal.strip(" ':,;.()") for literal, _, _, _ in string.Formatter().parse(text)):
                    found.add(text)
    return found


def test_every_literal_text_is_translated(catalogue: Catalog) -> None:
    """The literals that source files and templates pass to `t(...)`."""
    found = {str(text) for _, _, text, _, _ in extract_from_dir(SOURCE, METHODS, keywords={"t": None})}
    assert len(found) > 100
    assert {text for text in found if text not in catalogue} == set()


def test_methods_options_advice_and_layouts_of_data_sets_are_translated(catalogue: Catalog) -> None:
    """What pages show of them: these texts reach `t(...)` as values."""
    found = {layout.description for layout in FORMATS.values() if layout.write is not None}
    for info in list_methods():
        found.add(info.summary)
        found |= {field.description or "" for field in method_class(info.name).Options.model_fields.values()}
    found |= {rule.message.text for rule in RULES}
    assert {text for text in found if text and text not in catalogue} == set()


def test_every_error_that_is_raised_with_a_text_is_translated(catalogue: Catalog) -> None:
    found = raised_texts()
    assert len(found) > 500
    assert {text for text in found if catalogue.get(text, translation.ERROR) is None} == set()


def test_no_translation_is_left_of_an_error_that_is_gone(catalogue: Catalog) -> None:
    texts = {template(node) for _, node in source_nodes() if isinstance(node, ast.expr)}
    stale = {str(m.id) for m in catalogue if m.context == translation.ERROR and m.id not in texts}
    assert stale == set()


@pytest.mark.parametrize(
    ("message", "shown"),
    [
        ("fields must be given", "必须给出 fields"),
        ("/a: b/c.csv: fields must be given", "/a: b/c.csv: 必须给出 fields"),
        ("unknown engine 'x{0}'; did you mean y?", "未知的推理引擎 'x{0}'；是不是 y？"),
        ("it failed: disk full, on line 3 of engine", "第 3 of engine 行：disk full"),
        ("it failed: fields must be given, on line 3", "第 3 行：必须给出 fields"),
        ("it failed: " + "a: b, " * 300, "it failed: " + "a: b, " * 300),
        ("nothing of this is known: at all", "nothing of this is known: at all"),
        ("/a: it has no label", "/a: 没有标签"),  # the longest template, not the one that matches first
        ("unknown engine 'engine'; did you mean engine?", "未知的推理引擎 'engine'；是不是 engine？"),  # names
        ("HTTP 500: the server has no body", "HTTP 500: the server 没有 body"),
        ("", ""),
    ],
)
def test_an_error_keeps_its_values(message: str, shown: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    entries = {
        "fields must be given": "必须给出 fields",
        "engine": "推理引擎",
        "unknown {0} '{1}'; did you mean {2}?": "未知的{0} '{1}'；是不是 {2}？",
        "it failed: {0}, on line {1}": "第 {1} 行：{0}",
        "it has no label": "没有标签",
        "{0} has no {1}": "{0} 没有 {1}",
    }
    file = tmp_path / "xx" / "LC_MESSAGES" / "blemish.po"
    file.parent.mkdir(parents=True)
    lines = [f'msgctxt "error"\nmsgid "{text}"\nmsgstr "{own}"\n' for text, own in entries.items()]
    file.write_text("\n".join(lines), encoding="utf-8")
    monkeypatch.setattr(translation, "LOCALE", tmp_path)
    kept = (translation._read_catalogue, translation._error_templates)
    try:
        assert translate_error(message, "xx") == shown
        assert translate_error(message, "en") == message
    finally:
        for read in kept:
            read.cache_clear()


def test_a_line_of_a_bundle_or_a_file_is_translated_with_its_values() -> None:
    """What a calibration, a POD and an evaluation write: names and numbers stay, nothing else is English."""
    few = UnitScores.make([0.1, 0.2, 0.3, 0.4], ["a", "a", "b", "b"])
    good = CalibrationData(good=[0.1] * 12, defective=[0.9])
    _, calibration = calibrate(good, CalibrationTarget(), "held-out")
    lines = [*_explain_too_few(few, 0.01, "good"), *_explain_too_few(few, 0.02, "defective"), calibration.target]
    lines += [*calibration.warnings, CHANGED, NO_VALIDATION]
    values = {"trials": 7, "smallest": 3.25, "largest": 40.5, "largest_miss": 4.0, "smallest_hit": 5.0}
    lines += [str(Message(text, values)) for text in PROBLEM_TEXTS.values()]
    lines += map(str, _warnings(cast(_Sweep, SimpleNamespace(trials=[], surfaces=[0], not_drawn=[0])), False))
    for language in TRANSLATED:
        t = translator(language)
        for line in lines:
            assert not re.sub(r"F1|POD|a50|a90|px|--calibration cross-fitted|[^A-Za-z]", "", t.line(line)), t.line(line)
            found, numbers = (re.findall(r"\d+(?:\.\d+)?", own) for own in (t.line(line), line))
            assert sorted(found) == sorted(numbers)
    assert translator("en").line(lines[0]) == lines[0]
    assert "4 good validation images of only 2 parts cannot promise a false-alarm rate of 0.01; 99 are" in lines[0]


def test_doubts_of_splits_and_of_robustness_are_translated(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(duplicates, "MAX_NEAR_IMAGES", 3)
    samples = [Sample(Path(f"{i}.png"), split="train" if i % 2 else "test") for i in range(4)]
    kinds: tuple[Literal["identical", "near", "defects"], ...] = ("identical", "near", "defects")
    lines = describe_shared(samples, [SharedUnit(kind, [0, 1]) for kind in kinds])
    lines += duplicates.describe_unsearched(samples)
    lines += describe_doubts(["a", "a", "b"], ["c", "d", "d", "d"], 7)
    assert len(lines) == len(kinds) + 1 + 4
    for line in lines:
        shown = translator("zh").line(line)
        assert not re.sub(r"\d\.png \((train|test)\)|'group'|[^A-Za-z]", "", shown), shown
        found, numbers = (sorted(re.findall(r"\d+", own)) for own in (shown, line))
        assert found == numbers


def test_translations_have_the_placeholders_of_their_texts(catalogue: Catalog) -> None:
    for message in catalogue:
        if message.id:
            assert message.string, message.id
            assert placeholders(str(message.string)) == placeholders(str(message.id)), message.id


def test_no_translation_is_left_of_a_text_that_is_gone(catalogue: Catalog) -> None:
    """Every text stands in the source: as a literal of its own, or in a template."""
    constants = (node.value for _, node in source_nodes() if isinstance(node, ast.Constant))
    literals = {value for value in constants if isinstance(value, str)}
    pages = "".join(file.read_text(encoding="utf-8") for end in ("*.html", "*.js") for file in SOURCE.rglob(end))
    own = [message for message in catalogue if message.id and message.context is None]
    stale = {str(m.id) for m in own if m.id not in literals and str(m.id) not in pages}
    assert stale == set()


def test_the_chinese_texts_have_one_word_for_one_thing() -> None:
    """Synonyms of the words in the glossary: 工件 part, 工位 station, 热力图 heat map, 得分 score, 模型包 bundle,
    标准样件集 golden set, 掩膜 mask."""
    synonyms = ("零件", "检测站", "热图", "分数", "黄金样件", "金样", "交付文件", "掩码", "拒收阈值")
    folder = translation.LOCALE / "zh" / "LC_MESSAGES"
    texts = [folder / "blemish.po", *(SOURCE.parents[1] / "docs" / "zh").glob("*.md")]
    found = {word: file.name for file in texts for word in synonyms if word in file.read_text(encoding="utf-8")}
    assert found == {}


def test_a_catalogue_file_is_all_that_a_language_needs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "de" / "LC_MESSAGES" / "blemish.po"
    file.parent.mkdir(parents=True)
    file.write_text('msgid "{number} sizes"\nmsgstr "{number} Größen"\n', encoding="utf-8")
    monkeypatch.setattr(translation, "LOCALE", tmp_path)
    assert languages() == ["en", "de"]
    t = translator("de")
    assert t("{number} sizes", number=3) == "3 Größen"
    assert t("not {translated}") == "not {translated}"
    assert language_name("de") == "Deutsch"


def test_an_unknown_language_is_refused() -> None:
    with pytest.raises(OptionError, match="unknown language 'xx'; known are en, zh"):
        translator("xx")


@pytest.mark.parametrize(
    ("accepted", "language"),
    [("zh-CN,zh;q=0.9,en;q=0.8", "zh"), ("en-GB,zh;q=0.5", "en"), ("fr, zh;q=0.3", "zh"), ("", "en"), ("*", "en")],
)
def test_the_browser_s_first_known_language_is_taken(accepted: str, language: str) -> None:
    assert negotiate_language(accepted) == language
