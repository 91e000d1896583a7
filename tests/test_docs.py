"""The pages' own code blocks, run in order, in one folder.

Commands go through the program's own entry in this process: 28 fresh ones would load PyTorch a dozen times. The bundles
of the first page have the size of images and the cross-fitting that a reader gets, later ones only where a page asks
for them: that takes long.
"""

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from blemish.cli import main

DOCS = Path(__file__).parents[1] / "docs"
PAGES = ("getting-started.md", "how-to.md", "few-defects.md", "station.md")
BLOCK = re.compile(r"(?:`([\w.]+)`[^\n`]*:\n\n)?^```(\w+)\n(.*?)^```", re.DOTALL | re.MULTILINE)
ACCEPTED = (0, 1, 3)  # pass, reject and review are all answers


def blocks():
    """Each block as its page, the name of its file, its language and its text."""
    for page in PAGES:
        yield from ((page, *block) for block in BLOCK.findall((DOCS / page).read_text()))


@pytest.mark.timeout(900)
def test_every_block_runs(tmp_path, monkeypatch, capfd, brief_shipping):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "120")
    ran = 0
    for page, name, kind, text in blocks():
        few_good = brief_shipping if page == PAGES[0] else 0
        monkeypatch.setattr("blemish.training.learn.prepare.FEW_GOOD", few_good)
        if kind == "yaml":
            assert name, "a YAML block follows a line that names its file"
            (tmp_path / name).write_text(text)
        elif kind == "python":
            exec(compile(text, name or "block", "exec"), {"__name__": "__main__"})
            ran += 1
        elif kind == "console":
            for line in text.splitlines():
                assert line.startswith("$ blemish "), line
                arguments = shlex.split(line)[1:]
                if page != PAGES[0] and "train" in arguments and "image_size" not in line:
                    arguments += ["--set", "image_size=64"]
                monkeypatch.setattr(sys, "argv", arguments)
                code = exit_code()
                assert code in ACCEPTED, f"{line}\n{''.join(capfd.readouterr())[-3000:]}"
                ran += 1
    assert ran > 12
    assert (tmp_path / "run" / "run-report.html").stat().st_size > 10_000


def exit_code():
    """Runs the command line in sys.argv."""
    try:
        main()
    except SystemExit as stop:
        return stop.code or 0
    return 0


@pytest.mark.parametrize("page", ["station.md", "zh/station.md"])
def test_the_backup_command_names_another_file_each_day(page, tmp_path):
    (line,) = re.findall(r"^blemish record backup .*$", (DOCS / page).read_text(), re.MULTILINE)
    names = []
    for day in ("2026-03-01", "2026-03-02"):
        for name, text in {"date": f"echo {day}", "blemish": 'printf %s "$3"'}.items():
            (tmp_path / name).write_text(f"#!/bin/sh\n{text}\n")
            (tmp_path / name).chmod(0o755)
        environment = {"PATH": f"{tmp_path}{os.pathsep}{os.environ['PATH']}"}
        names.append(subprocess.run(["sh", "-c", line], env=environment, capture_output=True, text=True).stdout)
    assert ["-01.zip" in names[0], "-02.zip" in names[1]] == [True, True], names


GENERATED = {DOCS / "reference" / page for page in ("command-line.md", "formats.md", "schema.md")}  # by docs/hooks.py


def test_links_lead_somewhere():
    for page in [*DOCS.rglob("*.md"), DOCS.parent / "README.md"]:
        for target in re.findall(r"\]\(([^)#:]+)\)", page.read_text()):
            path = (page.parent / target).resolve()
            assert path.exists() or path in GENERATED, f"{page.name} links to {target}, which is not there"
