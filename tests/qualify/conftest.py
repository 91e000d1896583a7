"""`blemish qualify` as a command."""

import sys

import pytest

import blemish.cli


@pytest.fixture
def run(monkeypatch, capsys):
    monkeypatch.setattr(blemish.cli, "COMMANDS", {"qualify": "Evaluate"})

    def command(*arguments):
        monkeypatch.setattr(sys, "argv", ["blemish", "qualify", *map(str, arguments)])
        with pytest.raises(SystemExit) as left:
            blemish.cli.main()
        return left.value.code, capsys.readouterr()

    return command
