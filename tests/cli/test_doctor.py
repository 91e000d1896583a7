"""`blemish doctor`: what is installed, and the command that installs what is not."""

from importlib.metadata import PackageNotFoundError, version

from blemish.cli import doctor


def test_names_versions_engines_and_the_commands_that_install(monkeypatch, capsys):
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
