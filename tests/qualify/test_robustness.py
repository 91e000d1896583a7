"""Disturbances of known strength, and limits that follow from a graph whose score is the brightest pixel."""

import json
import sys

import cv2
import numpy as np
import pytest
from graphs import anomaly_bundle

import blemish.cli
from blemish.dataset.sample import GOOD, Sample
from blemish.errors import DataError
from blemish.evaluation.intervals import clopper_pearson
from blemish.imaging.quality import make_thumbnail, measure_quality
from blemish.inspection.bundle import open_bundle
from blemish.inspection.inspector import Inspector
from blemish.inspection.manifest import Decision, PictureLimits
from blemish.qualify import disturbances
from blemish.qualify.disturbances import DISTURBANCES
from blemish.qualify.robustness import measure_robustness
from blemish.station.image_quality import compare_quality

BY_NAME = {own.name: own for own in DISTURBANCES}
SIDES = (3, 3, 3, 12, 12, 12)  # of the defects, px


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Good parts of grey 0.45 at most; defective ones have a square of grey 0.8. Rejected from 0.6."""
    root, rng = tmp_path_factory.mktemp("set"), np.random.default_rng(0)
    for kind in ("good", "spot"):
        (root / "test" / kind).mkdir(parents=True)
        (root / "ground_truth" / "spot").mkdir(parents=True, exist_ok=True)
        for number, side in enumerate(SIDES):
            image = rng.uniform(0.25, 0.45, (64, 64))
            image[0, 0] = 0.45
            mask = np.zeros((64, 64), np.uint8)
            if kind == "spot":
                image[30 : 30 + side, 20 : 20 + side] = 0.8
                mask[30 : 30 + side, 20 : 20 + side] = 255
                cv2.imwrite(str(root / "ground_truth" / "spot" / f"{number}_mask.png"), mask)
            cv2.imwrite(str(root / "test" / kind / f"{number}.png"), np.round(255 * image).astype(np.uint8))
    (root / "train" / "good").mkdir(parents=True)
    cv2.imwrite(str(root / "train" / "good" / "0.png"), np.full((64, 64), 77, np.uint8))
    return root


@pytest.fixture
def bundle(tmp_path):
    return anomaly_bundle(tmp_path / "grey.blemish", Decision(reject=0.6, map_low=0.4, map_high=0.5))


def samples(folder):
    good = [Sample(path, label=GOOD) for path in sorted((folder / "test" / "good").iterdir())]
    masks = folder / "ground_truth" / "spot"
    spots = [
        Sample(masks.parents[1] / "test" / "spot" / f"{k}.png", label="spot", mask=masks / f"{k}_mask.png")
        for k in range(6)
    ]
    return [*good, *spots]


def test_limits_are_where_the_graph_changes_its_verdict(folder, bundle):
    kinds = [BY_NAME[name] for name in ("brighter", "darker", "turn", "blur")]
    found = measure_robustness(Inspector.open(bundle), samples(folder), disturbances=kinds)
    assert (found.good, found.defective, found.left_out) == (6, 6, 0)
    sweeps = {own.name: own for own in found.sweeps}
    # 0.45 x 1.3 = 0.585 passes and 0.45 x 1.45 does not; 0.8 x 0.8 = 0.64 is stopped and 0.8 x 0.7 is not
    assert (sweeps["brighter"].limit, sweeps["brighter"].first_stopped) == (1.3, 1.45)
    assert (sweeps["darker"].limit, sweeps["darker"].first_missed, sweeps["darker"].first_stopped) == (0.8, 0.7, None)
    assert sweeps["turn"].limit == 10.0
    last = sweeps["brighter"].levels[-1].stopped
    assert (last.value, last.n, last.low) == (1.0, 6, pytest.approx(0.5407, abs=1e-4))
    # A square of 3 px is blurred away before one of 12 px is.
    blurred = {own.level: own.missed_by_size for own in sweeps["blur"].levels}
    assert (blurred[1.8]["2 to 4"].value, blurred[1.8]["8 to 16"].value) == (1.0, 0.0)
    assert found.limits.min_brightness == pytest.approx(0.8, abs=0.01)
    assert found.limits.max_brightness == pytest.approx(1.3, abs=0.01)
    assert 0 < found.limits.min_sharpness < 1


def test_a_share_of_good_parts_may_be_stopped(folder, bundle):
    one = [BY_NAME["brighter"]]
    found = measure_robustness(Inspector.open(bundle), samples(folder), allowed_stopped=1.0, disturbances=one)
    assert found.sweeps[0].limit == 1.6
    assert found.limits == PictureLimits()


def test_wrong_verdicts_are_left_out_and_too_few_are_refused(folder, bundle, tmp_path):
    own = samples(folder)
    wrong = [*own, Sample(own[-1].image, label=GOOD)]
    found = measure_robustness(Inspector.open(bundle), wrong, disturbances=[BY_NAME["noise"]])
    assert found.left_out == 1
    assert any("wrong verdict" in line for line in found.warnings)
    with pytest.raises(DataError, match="robustness needs"):
        measure_robustness(Inspector.open(bundle), own[2:])


def test_images_of_one_part_count_once(folder, bundle, tmp_path):
    """Nine images of one good part, which is stopped, beside five others that are not."""
    good, spots = samples(folder)[:6], samples(folder)[6:]
    rng, many = np.random.default_rng(9), []
    for number in range(9):
        image = rng.uniform(0.25, 0.45, (64, 64))
        image[0, 0] = 0.55  # times 1.15 it is stopped
        cv2.imwrite(str(tmp_path / f"{number}.png"), np.round(255 * image).astype(np.uint8))
        many.append(Sample(tmp_path / f"{number}.png", label=GOOD, group="plate 7"))
    shots = [Sample(own.image, own.label, mask=own.mask, group="spotted") for own in spots]
    found = measure_robustness(
        Inspector.open(bundle), [*good[:5], *many, *shots], disturbances=[BY_NAME["brighter"], BY_NAME["darker"]]
    )
    assert (found.good, found.defective) == (6, 1)
    brighter = {own.level: own.stopped for own in found.sweeps[0].levels}
    stopped = next(rate for level, rate in brighter.items() if 0.6 / 0.55 < level < 0.6 / 0.45)
    assert (stopped.value, stopped.n) == (pytest.approx(1 / 6), 6)
    assert (stopped.low, stopped.high) == pytest.approx(clopper_pearson(1, 6))
    assert {own.missed.n for own in found.sweeps[1].levels} == {1}
    assert any(line.startswith("14 good images of only 6 parts") for line in found.warnings)
    assert any(line.startswith("1 defective parts are stopped") for line in found.warnings)
    with pytest.raises(DataError, match=r"^1 good parts pass undisturbed"):
        measure_robustness(Inspector.open(bundle), many)


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.float32])
@pytest.mark.parametrize("channels", [1, 3, 4])
@pytest.mark.parametrize("name", BY_NAME)
def test_disturbances_keep_type_and_size(name, dtype, channels):
    rng = np.random.default_rng(1)
    values = cv2.GaussianBlur(rng.random((40, 50, channels)), (0, 0), 3).reshape(40, 50, channels)
    image = (values * (1 if dtype == np.float32 else np.iinfo(dtype).max)).astype(dtype)
    before = image.copy()
    for level in BY_NAME[name].levels:
        out = BY_NAME[name].apply(image, level, np.random.default_rng(2))
        assert (out.dtype, out.shape) == (image.dtype, image.shape)
    assert (image == before).all()
    difference = np.abs(out.astype(float) - image).mean() / (1 if dtype == np.float32 else np.iinfo(dtype).max)
    assert 0 < difference < 0.4


def test_disturbances_are_of_their_strength():
    rng = np.random.default_rng(3)
    image = (cv2.GaussianBlur(rng.random((300, 400)), (0, 0), 2) * 400 - 80).clip(5, 120).astype(np.uint8)[..., None]
    before = measure_quality(image, make_thumbnail(image))

    def after(name, level):
        return measure_quality(BY_NAME[name].apply(image, level, np.random.default_rng(4)), make_thumbnail(image))

    assert after("brighter", 1.45)["brightness"] / before["brightness"] == pytest.approx(1.45, rel=0.01)
    assert after("lower contrast", 0.5)["brightness"] == pytest.approx(before["brightness"], rel=0.01)
    assert after("shift", 0.05)["shift"] == pytest.approx(0.05, rel=0.15)
    noisy = BY_NAME["noise"].apply(np.full((200, 200, 1), 128, np.uint8), 0.04, np.random.default_rng(5))
    assert noisy.std() == pytest.approx(0.04 * 255, rel=0.02)


def test_narrower_limits_of_a_bundle_raise_alarms_earlier():
    base = {"brightness": 0.5, "sharpness": 1.0}
    dark = {"brightness": 0.4, "sharpness": 1.0}
    assert compare_quality(base, dark) == []
    assert [alarm.kind for alarm in compare_quality(base, dark, PictureLimits(min_brightness=0.9))] == ["Dark images"]
    darker = {"brightness": 0.3, "sharpness": 1.0}
    assert [alarm.kind for alarm in compare_quality(base, darker, PictureLimits(min_brightness=0.1))] == ["Dark images"]


def test_the_command_writes_limits_and_a_plot(folder, bundle, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(blemish.cli, "COMMANDS", {"qualify": "Evaluate"})
    monkeypatch.setattr(disturbances, "DISTURBANCES", [BY_NAME["brighter"], BY_NAME["darker"]])
    out, plot = tmp_path / "out.json", tmp_path / "plot.png"
    words = ["robustness", bundle, folder, "--json", out, "--plot", plot, "--write", "--images", 12]
    monkeypatch.setattr(sys, "argv", ["blemish", "qualify", *map(str, words)])
    with pytest.raises(SystemExit) as left:
        blemish.cli.main()
    assert left.value.code == 0
    assert "brighter" in capsys.readouterr().out
    limits = json.loads(out.read_text())["limits"]
    assert open_bundle(bundle).manifest.picture_limits == PictureLimits(**limits)
    assert cv2.imread(str(plot)).shape[1] > 1000
