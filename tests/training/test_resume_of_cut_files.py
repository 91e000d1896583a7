"""A run whose files were cut off is noticed on resuming; a training that failed leaves its folder free."""

import errno
import re
import shutil

import pytest
from safetensors.torch import load_file, save_file

from blemish.errors import OptionError
from blemish.files import atomic_path
from blemish.inspection.bundle import find_bundle
from blemish.training import train as training
from blemish.training.train import resume, train

OPTIONS = {"image_size": 64, "coreset_ratio": 0.2}


def learn(data, out):
    return train(data, out=out, method="patchcore", options=OPTIONS, progress=False, calibration="held-out")


@pytest.fixture(scope="module")
def finished(tiny_data, tmp_path_factory):
    return learn(tiny_data.folder / "mvtec", tmp_path_factory.mktemp("runs") / "run")


@pytest.fixture
def unshipped(finished, tmp_path):
    """A trained run that has not shipped yet."""
    run = shutil.copytree(finished, tmp_path / "run")
    find_bundle(run).unlink()
    return run


def test_the_sound_twin_resumes(unshipped):
    assert find_bundle(resume(unshipped, progress=False)).is_file()


@pytest.mark.parametrize("name", ["run.yaml", "split.csv"])
@pytest.mark.parametrize("left", [0.0, 0.3, 0.7, "a line", "a byte"])
def test_a_file_that_was_cut_anywhere_is_named(unshipped, name, left):
    path = unshipped / name
    content = path.read_bytes()
    lines = content.splitlines(keepends=True)
    cut = {"a line": len(content) - len(lines[-1]), "a byte": len(content) - 2}.get(left)
    path.write_bytes(content[: round(left * len(content)) if cut is None else cut])
    with pytest.raises(OptionError, match=rf"{re.escape(name)}' (is cut off|is neither YAML)"):
        resume(unshipped, progress=False)


@pytest.mark.parametrize("left", [0, 5, 0.5, 0.999])
def test_weights_that_were_cut_are_named(unshipped, left):
    path = unshipped / "weights.safetensors"
    content = path.read_bytes()
    path.write_bytes(content[: left if isinstance(left, int) else int(left * len(content))])
    with pytest.raises(OptionError, match=r"weights\.safetensors' is cut off or damaged"):
        resume(unshipped, progress=False)


def test_weights_of_another_version_are_named(unshipped):
    path = unshipped / "weights.safetensors"
    weights = load_file(path)
    weights.popitem()
    save_file(weights, path)
    with pytest.raises(OptionError, match=r"made by another version of blemish .* start a new run"):
        resume(unshipped, progress=False)


def test_a_checkpoint_that_was_cut_is_named(unshipped):
    (unshipped / "checkpoints").mkdir()
    (unshipped / "checkpoints" / "last.ckpt").write_bytes(b"PK\x03\x04 and no end")
    with pytest.raises(OptionError, match=r"last\.ckpt' is cut off; delete it"):
        resume(unshipped, progress=False)


@pytest.mark.parametrize("step", ["write_csv", "write_config", "save_file"])
def test_a_full_disk_leaves_the_folder_free_for_the_next_try(tiny_data, tmp_path, monkeypatch, step):
    def write(*arguments, **more):
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(training, step, write)
        with pytest.raises(OSError, match="No space left"):
            learn(tiny_data.folder / "mvtec", tmp_path / "run")
    assert not (tmp_path / "run" / "run.yaml").exists()
    assert not list(tmp_path.rglob("*.partial"))
    assert find_bundle(learn(tiny_data.folder / "mvtec", tmp_path / "run")).is_file()


def write_half(path):
    with atomic_path(path) as partial:
        partial.write_text("half")
        raise OSError(errno.ENOSPC, "No space left on device")


def test_an_error_while_writing_names_the_file_that_was_meant(tmp_path):
    (tmp_path / "file").write_text("old")
    with pytest.raises(OSError, match="No space left") as caught:
        write_half(tmp_path / "file")
    assert caught.value.filename == str(tmp_path / "file")
    assert [(p.name, p.read_text()) for p in tmp_path.iterdir()] == [("file", "old")]
