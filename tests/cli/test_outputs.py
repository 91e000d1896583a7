"""No command writes its results over what it reads, over files of the data, or over a station's record."""

import json
import sys

import cv2
import numpy as np
import pytest
from graphs import anomaly_bundle

from blemish.cli import main
from blemish.dataset.read import detect_format, read_dataset
from blemish.errors import DataError

NAMES = ("images", "masks", "templates")


@pytest.fixture
def blemish(tmp_path, monkeypatch, capsys):
    """Runs a command line, in a folder of its own; gives its exit code and stderr."""
    monkeypatch.chdir(tmp_path)

    def run(*arguments):
        monkeypatch.setattr(sys, "argv", ["blemish", *map(str, arguments)])
        with pytest.raises(SystemExit) as stop:
            main()
        return stop.value.code or 0, capsys.readouterr().err

    return run


@pytest.fixture
def data(tmp_path):
    """A list with images, masks and reference images in other folders, and the same images in a folder of their own."""
    rng = np.random.default_rng(0)
    rows = ["image,label,mask,template,split"]
    for i in range(12):
        image = rng.integers(20, 90, (32, 32), np.uint8)
        mask = np.zeros((32, 32), np.uint8)
        if i % 2:
            mask[8:16, 8:16] = 255
            image[mask > 0] = 250
        for name, pixels in zip(NAMES, (image, mask, image), strict=True):
            (tmp_path / name).mkdir(exist_ok=True)
            cv2.imwrite(str(tmp_path / name / f"{i:02}.png"), pixels)
        label = "pit" if i % 2 else "good"
        (tmp_path / "set" / label).mkdir(parents=True, exist_ok=True)
        cv2.imwrite(str(tmp_path / "set" / label / f"{i:02}.png"), image)
        split = "train" if i > 9 else "test"
        rows.append(f"images/{i:02}.png,{label},{f'masks/{i:02}.png' if i % 2 else ''},templates/{i:02}.png,{split}")
    (tmp_path / "list.csv").write_text("\n".join(rows) + "\n")
    (tmp_path / "set" / "ground_truth.csv").write_text("a list that no reader of folders reads\n")
    return tmp_path


@pytest.fixture
def bundle(tmp_path):
    return anomaly_bundle(tmp_path / "run" / "grey.blemish", side=32)


def contents(folder):
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


COMMANDS = {
    "evaluate": ("evaluate", "{bundle}", "{data}", "--no-speed", "--json"),
    "report": ("report", "{bundle}", "{data}", "--no-speed", "--out"),
    "pod": ("pod", "{bundle}", "{data}", "--json"),
    "pod page": ("pod", "{bundle}", "{data}", "--out"),
    "robustness": ("qualify", "robustness", "{bundle}", "{data}", "--json"),
    "robustness plot": ("qualify", "robustness", "{bundle}", "{data}", "--plot"),
    "views": ("views", "{data}", "--view", "a={bundle}", "--json"),
    "info": ("data", "info", "{data}", "--json"),
    "audit": ("data", "audit", "{data}", "--json"),
    "plan": ("plan", "{data}", "--no-probe", "--json"),
    "compress": ("compress", "{bundle}", "--data", "{data}", "--json"),
}


@pytest.mark.parametrize("name", COMMANDS)
def test_no_file_of_the_data_is_overwritten(blemish, data, bundle, name):
    targets = {
        "list.csv": ["list.csv", "images/00.png", "images/10.png", "masks/01.png", "templates/00.png"],
        "set": ["set/good/00.png", "set/pit/01.png", "set/ground_truth.csv"],
    }
    if "{bundle}" in COMMANDS[name]:
        targets["set"].append("run/grey.blemish")
    before = contents(data)
    for source, files in targets.items():
        for file in files:
            words = [part.format(bundle=bundle, data=data / source) for part in COMMANDS[name]]
            code, err = blemish(*words, data / file)
            assert code == 2, file
            assert "would be overwritten" in err, file
    assert contents(data) == before


def test_an_earlier_result_among_the_data_is_replaced(blemish, data, bundle):
    for command, name in (
        ("evaluate", "e.json"),
        ("plan", "p.json"),
        ("report", "r.html"),
        ("info", "i.json"),
        ("audit", "a.json"),
    ):
        words = [part.format(bundle=bundle, data=data / "set") for part in COMMANDS[command]]
        for _ in range(2):
            code, err = blemish(*words, data / "set" / "results" / name)
            assert code in (0, 1), (command, err)
    coco = data / "set" / "results" / "e.json"
    coco.write_text(json.dumps({"images": [], "annotations": [], "categories": []}))
    assert blemish("data", "info", data / "set", "--json", coco)[0] == 2


@pytest.mark.parametrize("name", ["evaluate", "pod", "robustness", "info", "audit", "plan", "inspect", "coco"])
def test_a_result_among_the_data_is_no_annotation(blemish, data, bundle, name):
    inspect = ("inspect", "{bundle}", "{data}", "--out", str(data / "marked"))
    command = {**COMMANDS, "inspect": (*inspect, "--json"), "coco": (*inspect, "--coco")}[name]
    given = {"bundle": bundle, "data": data / "set"}
    blemish(*(argument.format(**given) for argument in command), data / "result.json")
    found = data / "set" / "result.json"
    (data / "result.json").replace(found)
    assert detect_format(data / "set") == "classes"
    assert len(read_dataset(data / "set", "classes")) == 12
    for own in ("", '"about": "our line", '):  # of another program, whatever else it holds: still unclear
        found.write_text(f'{{{own}"images": [], "annotations": [], "categories": []}}')
        with pytest.raises(DataError, match=r"looks like several layouts: .*coco"):
            detect_format(data / "set")


def test_a_decision_replaces_neither_its_rules_nor_its_bundle(blemish, data, bundle):
    rules = data / "rules.yaml"
    rules.write_text("- reject if area_px > 5\n")
    before = contents(data)
    for options in (
        ("--rules", rules, "--out", rules),
        ("--rules", rules, "--json", rules),
        ("--reject", 0.7, "--json", bundle),
        ("--reject", 0.7, "--out", data / "new.blemish", "--json", data / "new.blemish"),
    ):
        code, err = blemish("decide", bundle, *options)
        assert (code, "would be" in err) == (2, True), options
    assert contents(data) == before


def test_a_certificate_replaces_no_image(blemish, data, bundle):
    before = contents(data)
    for target in (bundle, data / "images" / "00.png"):
        code, err = blemish("certify", bundle, "--images", data / "images", "--json", target)
        assert (code, "would be overwritten" in err) == (2, True), err
    assert contents(data) == before


def test_a_backup_replaces_no_file(blemish, tmp_path):
    (tmp_path / "station").mkdir()
    for name in ("station/station.db", "kept.zip"):
        (tmp_path / name).write_bytes(b"kept")
        code, err = blemish("record", "backup", tmp_path / name, "--data", tmp_path / "station")
        assert (code, "would be overwritten" in err) == (2, True), err
        assert (tmp_path / name).read_bytes() == b"kept"
