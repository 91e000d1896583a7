"""Exit codes of errors: what the user can mend is one line and 2, what nobody foresaw one line and 70."""

import errno
import json
import os
import re
import sys
from pathlib import Path

import numpy as np
import pytest

import blemish.cli
from blemish.cli import EXIT_UNFORESEEN, refusal
from blemish.imaging.read import write_image


@pytest.fixture
def blemish_command(monkeypatch, capsys):
    def run(*arguments):
        monkeypatch.setattr(sys, "argv", ["blemish", *map(str, arguments)])
        with pytest.raises(SystemExit) as left:
            blemish.cli.main()
        return left.value.code or 0, capsys.readouterr().err.splitlines()

    return run


@pytest.fixture
def good_set(tmp_path):
    for i in range(3):
        write_image(tmp_path / "set" / "good" / f"{i}.png", np.full((16, 16), 50 * i, np.uint8))
    return tmp_path / "set"


def fail_with(monkeypatch, error):
    """`data info` fails after the set was read."""

    def describe(*arguments):
        raise error

    monkeypatch.setattr("blemish.dataset.info.describe", describe)


def test_an_unforeseen_error_is_one_line_that_names_its_log(blemish_command, good_set, monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    assert blemish_command("data", "info", good_set) == (0, [])  # the sound twin
    fail_with(monkeypatch, ZeroDivisionError("by\nnothing"))
    code, lines = blemish_command("data", "info", good_set)
    assert code == EXIT_UNFORESEEN == 70
    (line,) = lines
    assert line.startswith("blemish: unforeseen ZeroDivisionError: by nothing; ")
    (log,) = (tmp_path / "state" / "blemish").iterdir()
    assert line.endswith(str(log))
    text = log.read_text(encoding="utf-8")
    assert "Traceback" in text
    assert "in describe" in text
    assert str(good_set) in text
    assert sorted(path.name for path in good_set.rglob("*.*")) == ["0.png", "1.png", "2.png"]


def test_without_a_place_for_the_log_it_is_still_one_line(blemish_command, good_set, monkeypatch, tmp_path):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "file"))
    monkeypatch.setattr("tempfile.gettempdir", lambda: str(tmp_path / "file"))
    fail_with(monkeypatch, RuntimeError("odd"))
    code, lines = blemish_command("data", "info", good_set)
    assert (code, len(lines)) == (70, 1)
    assert "written nowhere" in lines[0]


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (OSError(errno.ENOSPC, "No space left on device", "some/file"), "some/file: no space left on the disk"),
        (OSError(errno.EDQUOT, "Disk quota exceeded", "f"), "f: no space left in the disk quota"),
        (OSError(errno.EROFS, "Read-only file system", "f"), "f: the disk is read-only"),
        (PermissionError(errno.EACCES, "Permission denied", "f"), "f: permission denied"),
        (FileNotFoundError(errno.ENOENT, "No such file", "f"), "f: the file or folder does not exist, or has vanished"),
        (OSError(errno.EIO, "Input/output error", b"f\xf6"), r"f\udcf6: input/output error"),
        (OSError(errno.ENOTEMPTY, "Directory not empty", "a", None, "b"), "a and b: directory not empty"),
        (RuntimeError("I/O error: No space left on device (os error 28)"), "no space left on the disk"),
    ],
)
def test_what_the_system_refuses_is_one_line(blemish_command, good_set, monkeypatch, error, words):
    fail_with(monkeypatch, error)
    code, lines = blemish_command("data", "info", good_set)
    assert (code, len(lines)) == (2, 1)
    assert words in lines[0]


def test_a_refusal_is_found_below_a_library_s_own_error():
    wrapped = ValueError("could not be saved")
    wrapped.__cause__ = OSError(errno.ENOSPC, "No space left on device", "x")
    assert refusal(wrapped).startswith("x: no space left")
    assert refusal(ValueError("could not be saved")) is None
    assert refusal(OSError("an error without a number")) is None


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="there is no /dev/full")
@pytest.mark.parametrize("command", ["info", "audit"])
def test_json_to_a_full_disk(blemish_command, good_set, command):
    code, lines = blemish_command("data", command, good_set, "--json", "/dev/full")
    assert code == 2
    assert "/dev/full: no space left" in lines[-1]
    assert Path("/dev/full").is_char_device()  # it was not replaced by a file


def test_json_of_names_that_are_no_utf8(blemish_command, good_set, tmp_path):
    os.rename(os.fsencode(good_set / "good" / "2.png"), os.fsencode(good_set / "good") + b"/R\xf6hre.png")
    (good_set / "good" / "0.png").write_bytes((good_set / "good" / "1.png").read_bytes())
    os.truncate(os.fsencode(good_set / "good") + b"/R\xf6hre.png", 20)
    code, lines = blemish_command("data", "audit", good_set, "--json", tmp_path / "audit.json")
    assert (code, [line for line in lines if line.startswith("blemish:")]) == (1, [])
    (line,) = json.loads((tmp_path / "audit.json").read_text(encoding="utf-8"))["unreadable"]
    name = re.search(r"\S*R\S+hre\.png", line)[0]
    assert os.fsencode(name) == os.fsencode(good_set / "good") + b"/R\xf6hre.png"
