"""The pages' own code blocks, run in the order they stand in, in one folder."""

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

DOCS = Path(__file__).parents[1] / "docs"
PAGES = ("getting-started.md", "how-to.md", "few-defects.md", "station.md")
BLOCK = re.compile(r"(?:`([\w.]+)`[^\n`]*:\n\n)?^```(\w+)\n(.*?)^```", re.DOTALL | re.MULTILINE)
ACCEPTED = (0, 1, 3)  # pass, reject and review are all answers


def blocks():
    for page in PAGES:
        yield from BLOCK.findall((DOCS / page).read_text())


@pytest.mark.timeout(900)
def test_every_block_runs(tmp_path):
    environment = {**os.environ, "COLUMNS": "120"}
    ran = 0
    for name, kind, text in blocks():
        if kind == "yaml":
            assert name, "a YAML block follows a line that names its file"
            (tmp_path / name).write_text(text)
        elif kind == "python":
            run([sys.executable, "-c", text], tmp_path, environment)
            ran += 1
        elif kind == "console":
            for line in text.splitlines():
                assert line.startswith("$ blemish "), line
                run([sys.executable, "-m", "blemish", *shlex.split(line)[2:]], tmp_path, environment)
                ran += 1
    assert ran > 12
    assert (tmp_path / "run" / "run-report.html").stat().st_size > 10_000


def run(command, folder, environment):
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode in ACCEPTED, f"{command}\n{done.stdout[-1500:]}\n{done.stderr[-1500:]}"


def test_links_lead_somewhere():
    for page in [*DOCS.rglob("*.md"), DOCS.parent / "README.md"]:
        for target in re.findall(r"\]\(([^)#:]+)\)", page.read_text()):
            assert (page.parent / target).exists(), f"{page.name} links to {target}, which is not there"
