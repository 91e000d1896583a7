"""`blemish doctor`: what is there, and for what is not the command that mends it."""

from importlib.metadata import PackageNotFoundError, version

from blemish.cli import doctor


def test_names_versions_engines_and_the_commands_that_mend(monkeypatch, capsys):
    def without_torch(name):
        if name in ("torch", "timm"):
            raise PackageNotFoundError(name)
        return version(name)

    monkeypatch.setattr(doctor, "version", without_torch)
    doctor.doctor()
    lines = [" ".join(line.split()) for line in capsys.readouterr().out.splitlines()]
    assert f"✓ numpy {version('numpy')}" in lines
    assert "– torch missing" in lines
    assert any(line.startswith("✓ engine onnxruntime") for line in lines)
    assert "pip install 'blemish[train]' # torch, timm" in lines
