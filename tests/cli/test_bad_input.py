"""Bad input to every command: one clear line on stderr, exit code 2, no traceback, nothing lost."""

import sys
import zlib

import cv2
import numpy as np
import pytest
from PIL import Image

from blemish.cli import main


@pytest.fixture
def blemish(monkeypatch, capsys):
    """Runs a command line; gives its exit code and the lines on stderr."""

    def run(*arguments):
        monkeypatch.setattr(sys, "argv", ["blemish", *map(str, arguments)])
        try:
            main()
        except SystemExit as stop:
            code = stop.code or 0
        else:
            code = 0
        return code, [line for line in capsys.readouterr().err.splitlines() if line.strip()]

    return run


def complaint(code, lines):
    assert code == 2
    told = [line for line in lines if line.startswith("blemish: ")]
    assert len(told) == 1, lines
    assert not any("Traceback" in line for line in lines)
    return told[0]


def good_images(folder, count=6, split="train"):
    rng = np.random.default_rng(0)
    (folder / split / "good").mkdir(parents=True)
    for i in range(count):
        cv2.imwrite(str(folder / split / "good" / f"{i}.png"), rng.integers(90, 130, (64, 64, 3)).astype(np.uint8))


def truncated(path):
    good = path.parent / "0.png"
    path.write_bytes(good.read_bytes()[:2000])


def bomb(path):
    """A small PNG whose header claims 30000 x 30000 pixels."""
    Image.new("1", (8, 8)).save(path)
    content = bytearray(path.read_bytes())
    content[16:24] = 2 * (30000).to_bytes(4, "big")
    content[29:33] = zlib.crc32(content[12:29]).to_bytes(4, "big")
    path.write_bytes(content)


HARMS = {
    "truncated": truncated,
    "zero bytes": lambda path: path.write_bytes(b""),
    "no image at all": lambda path: path.write_text("these are not pixels"),
    "image bomb": bomb,
}


@pytest.mark.parametrize("harm", HARMS)
def test_an_unreadable_training_image_is_named(blemish, tmp_path, harm):
    good_images(tmp_path / "set")
    HARMS[harm](tmp_path / "set" / "train" / "good" / "bad.png")
    line = complaint(
        *blemish(
            "train", tmp_path / "set", "--method", "patchcore", "--out", tmp_path / "run", "--set", "image_size=64"
        )
    )
    assert "bad.png" in line


def test_images_of_every_kind_are_trained_on(blemish, tmp_path):
    good_images(tmp_path / "set")
    folder = tmp_path / "set" / "train" / "good"
    rng = np.random.default_rng(1)
    Image.fromarray(rng.integers(0, 255, (60, 61, 4)).astype(np.uint8), "CMYK").save(folder / "cmyk.jpg")
    cv2.imwrite(str(folder / "grey16.png"), rng.integers(0, 65535, (63, 70)).astype(np.uint16))
    cv2.imwrite(str(folder / "wrong.bmp"), np.full((1, 1, 3), 100, np.uint8))
    (folder / "wrong.bmp").rename(folder / "one_pixel.jpg")  # 1 x 1, and of another type than its name says
    code, lines = blemish(
        "train", tmp_path / "set", "--method", "patchcore", "--out", tmp_path / "run", "--set", "image_size=64"
    )
    assert code == 0, lines
    assert (tmp_path / "run" / "run.blemish").exists()


def empty(folder):
    folder.mkdir()


def only_defects(folder):
    good_images(folder)
    (folder / "train" / "good").rename(folder / "train" / "scratch")
    (folder / "list.csv").write_text(
        "image,label,split\n" + "".join(f"train/scratch/{i}.png,scratch,train\n" for i in range(6))
    )


def mask_of_another_size(folder):
    good_images(folder)
    good_images(folder, 1, "test")
    (folder / "test" / "good").rename(folder / "test" / "pit")
    (folder / "ground_truth" / "pit").mkdir(parents=True)
    cv2.imwrite(str(folder / "ground_truth" / "pit" / "0_mask.png"), np.full((32, 32), 255, np.uint8))


@pytest.mark.parametrize(
    ("make", "data", "words"),
    [
        (empty, "", "empty folder"),
        (only_defects, "list.csv", "is trained on good images and there are none"),
        (lambda folder: good_images(folder, split="defect"), "", "no good ones; put good ones in"),
        (None, "", "does not exist"),
    ],
)
def test_a_dataset_that_nothing_can_be_trained_on(blemish, tmp_path, make, data, words):
    if make is not None:
        make(tmp_path / "set")
    line = complaint(*blemish("train", tmp_path / "set" / data, "--method", "patchcore", "--out", tmp_path / "run"))
    assert words in line
    assert not (tmp_path / "run" / "run.blemish").exists()


def test_a_mask_of_another_size_is_reported_and_the_rest_is_evaluated(blemish, tmp_path):
    mask_of_another_size(tmp_path / "set")
    quick = ["--set", "image_size=64", "--out", tmp_path / "run"]
    assert blemish("train", tmp_path / "set", "--method", "patchcore", *quick)[0] == 0
    code, lines = blemish("evaluate", tmp_path / "run", tmp_path / "set", "--no-speed")
    assert code == 0
    assert any("0_mask.png" in line and "32" in line for line in lines)
    assert not any("Traceback" in line for line in lines)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["train"], "name the dataset"),
        (["train", "{set}", "--method", "patchcor"], "did you mean patchcore"),
        (["train", "{set}", "--method", "patchcore", "--set", "coreset_ration=1"], "did you mean coreset_ratio"),
        (["train", "{set}", "--method", "patchcore", "--set", "coreset_ratio=7"], "less than or equal to 1"),
        (["train", "{set}", "--method", "patchcore", "--set", "backbone=no_net"], "no network 'no_net'"),
        (["train", "{set}", "--method", "patchcore", "--set", "weights=nowhere.pth"], "nor a file that exists"),
        (["train", "{set}", "--method", "patchcore", "--calibration", "guess"], "held-out"),
        (["train", "{set}", "--method", "patchcore", "--false-alarm", "2"], "less than 1"),
        (["train", "{set}", "--method", "patchcore", "--device", "tpu"], "not one of 'auto', 'cpu', 'cuda'"),
        (["train", "{set}", "--method", "patchcore", "--precision", "sharp"], "'sharp' is invalid"),
        (["train", "{set}", "--method", "patchcore", "--strategy", "luck", "--devices", "2"], "choose auto, ddp"),
        (["train", "{set}", "--method", "patchcore", "--px-per-mm", "ten"], "one positive number"),
        (["train", "{set}", "--method", "patchcore", "--scale-uncertainty", "0.01"], "give --px-per-mm"),
        (["train", "{set}", "--method", "patchcore", "--roi", "nowhere.yaml"], "cannot be read"),
        (["train", "{set}", "--method", "patchcore", "--fit", "squeeze"], "stretch"),
        (["train", "{set}", "--method", "patchcore", "--overlap", "0.25"], "give --tile"),
        (["compare", "{set}", "--out", "{new}", "--overlap", "0.5"], "give --tile"),
        (["train", "{set}", "--method", "patchcore", "--window-share", "0.1"], "give --tile"),
        (["train", "{set}", "--method", "patchcore", "--defect-share", "0.4"], "--defect-share says"),
        (["train", "{set}", "--method", "patchcore", "--calibration", "held-out", "--folds", "7"], "cross-fitted"),
        (["train", "{set}", "--method", "patchcore", "--set", "image_size=64", "--set", "image_size=9"], "given twice"),
        (["train", "{set}", "--method", "patchcore", "--escape", "0.1", "--cost-escape", "3"], "two aims"),
        (["train", "--resume", "nowhere"], "not a run folder"),
        (["train", "--resume", "nowhere", "--seed", "3", "--set", "steps=2"], "leave --seed, --set out"),
        (["methods", "patchcor"], "did you mean patchcore"),
        (["evaluate", "nowhere", "{set}", "--split", "train"], "no bundle"),
        (["report", "nowhere", "{set}", "--split", "train"], "no bundle"),
        (["synth", "{set}"], "is not empty"),
        (["synth", "{new}", "--surfaces", "cheese"], "choose from metal"),
        (["synth", "{new}", "--surfaces", "metal,metal"], "name every surface once"),
        (["demo", "--out", "{set}"], "no older demo"),
        (["data", "info", "nowhere"], "does not exist"),
    ],
)
def test_one_clear_line(blemish, tmp_path, monkeypatch, arguments, words):
    good_images(tmp_path / "set")
    monkeypatch.chdir(tmp_path)
    places = {"set": tmp_path / "set", "new": tmp_path / "new"}
    line = complaint(*blemish(*(str(a).format(**places) for a in arguments)))
    assert words in line
    assert len(list((tmp_path / "set" / "train" / "good").iterdir())) == 6
    assert not list(tmp_path.glob("runs/*/run.yaml"))  # the next try may have the same folder


@pytest.mark.parametrize("command", ["train", "plan", "compare", "augment", "synth"])
@pytest.mark.parametrize("seed", [-1, 2**32])
def test_a_seed_is_one_that_numpy_takes(blemish, tmp_path, command, seed):
    code, lines = blemish(command, tmp_path / "set", "--seed", str(seed))
    assert code == 2
    assert "than or equal to " in " ".join(lines)


def test_a_set_without_defects_says_so(tmp_path, monkeypatch, capsys):
    options = ("--train", "1", "--good", "0", "--defects", "0", "--size", "64")
    monkeypatch.setattr(sys, "argv", ["blemish", "synth", str(tmp_path / "set"), *options])
    with pytest.raises(SystemExit) as stop:
        main()
    assert (stop.value.code, "1 image of metal; defects: none;" in capsys.readouterr().out) == (0, True)


def test_a_demo_without_its_libraries_writes_nothing(blemish, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "lightning", None)  # as if it were not installed
    line = complaint(*blemish("demo", "--out", tmp_path / "demo"))
    assert "lightning is not installed; pip install 'blemish[train]'" in line
    assert not (tmp_path / "demo").exists()
