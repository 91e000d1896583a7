"""Messages, tables and JSON of the commands, in a terminal and in a pipe."""

import io
import json
import logging
import sys

import pytest

import blemish.cli
from blemish.cli.console import WideConsole, hide_log, show_log, show_table

ROWS = [("reverse-distillation", "1", "x" * 300), ("[b]unet[/b]", "23", "short")]


@pytest.fixture
def blemish_command(monkeypatch, capsys):
    def run(*arguments):
        monkeypatch.setattr(sys, "argv", ["blemish", *map(str, arguments)])
        with pytest.raises(SystemExit) as left:
            blemish.cli.main()
        shown = capsys.readouterr()
        return left.value.code, shown.out, shown.err

    return run


def test_without_a_terminal_nothing_is_cut_and_columns_are_aligned():
    screen = WideConsole(file=io.StringIO())
    show_table(("method", "n", "summary"), ROWS, right=("n",), title="Methods", screen=screen)
    title, header, first, second = screen.file.getvalue().splitlines()
    assert title == "Methods"
    assert header == "method                 n  summary"
    assert first == f"reverse-distillation   1  {'x' * 300}"
    assert second == "unet                  23  short"


def test_in_a_terminal_names_are_whole_and_the_rest_is_wrapped():
    screen = WideConsole(file=io.StringIO(), force_terminal=True, width=60, color_system=None)
    show_table(("method", "n", "summary"), ROWS, screen=screen)
    lines = screen.file.getvalue().splitlines()
    assert any("reverse-distillation" in line for line in lines)
    assert max(map(len, lines)) <= 60
    assert screen.file.getvalue().count("x") == 300


def test_log_records_are_messages_once_each(capsys):
    logger = logging.getLogger("blemish.somewhere")
    show_log()
    show_log()
    try:
        logger.info("learning from %d [images]", 9)
        logger.warning("slow")
        logger.debug("not shown")
    finally:
        hide_log()
    logger.info("not shown either")
    assert capsys.readouterr().err.splitlines() == ["› learning from 9 [images]", "warning: slow"]


def test_a_method_is_found_by_its_name_in_a_pipe(blemish_command):
    code, out, _ = blemish_command("methods")
    assert code == 0
    row = next(line for line in out.splitlines() if "reverse-distillation" in line)
    assert row.split()[:2] == ["reverse-distillation", "feature_distance"]


@pytest.mark.parametrize("arguments", [("methods",), ("methods", "unet"), ("doctor",)])
def test_listings_are_json_too(blemish_command, arguments):
    code, out, _ = blemish_command(*arguments, "--json", "-")
    content = json.loads(out)
    assert code == 0
    assert len(content) > 3


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("trian",), "did you mean 'train'"),
        (("inspect",), "missing argument"),
        (("decide", "x", "--threshold", "1"), "no such option: --threshold"),
        (("compare", "x", "--by", "beauty"), "is not one of 'auroc', 'macro-f1', 'map50', 'iou'"),
    ],
)
def test_a_wrong_command_line_is_one_line(blemish_command, arguments, words):
    code, out, err = blemish_command(*arguments)
    assert (code, out) == (2, "")
    assert len(err.splitlines()) == 1
    assert words.lower() in err.lower()
    assert "--help" in err


def test_help_of_a_command_lists_choices(blemish_command):
    _, out, _ = blemish_command("train", "--help")
    for choices in ("stretch, letterbox", "held-out, cross-fitted", "auto, cpu, cuda", "deeppcb", "good-defect"):
        assert choices in " ".join(out.replace("│", " ").split())
