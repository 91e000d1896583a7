"""Escapes at a false-alarm rate, as training states them at its end."""

import numpy as np
import pytest
from scipy.stats import binomtest

from blemish import train
from blemish.cli.train import _show
from blemish.inspection.bundle import open_bundle
from blemish.training.ship.forecast import forecast_escapes, forecast_sentence

OPTIONS = {"image_size": 64, "coreset_ratio": 0.2}


def test_escapes_are_the_defects_below_the_threshold_of_the_rate():
    good, defective = np.arange(1.0, 200.0), np.array([150.0, 189.0, 195.0, 199.0, 300.0])
    at_1, at_5 = forecast_escapes(good, defective, synthetic=False)
    assert (at_1.false_alarm, at_5.false_alarm) == (0.01, 0.05)
    assert 198 < at_1.threshold < 198.1  # rank ceil(200 * 0.99)
    assert 190 < at_5.threshold < 190.1
    assert (at_1.passed, at_5.passed, at_1.defects) == (3, 2, 5)
    assert at_1.interval == pytest.approx(tuple(binomtest(3, 5).proportion_ci(method="exact")), abs=1e-6)
    line = forecast_sentence([at_1, at_5])
    assert line.startswith("of 5 defective validation images would pass: 3 at 1% false alarms (60%")
    assert "2 at 5% false alarms (40%" in line
    assert forecast_escapes(good, np.empty(0), synthetic=True) == []
    assert forecast_escapes(np.empty(0), defective, synthetic=True) == []


@pytest.mark.parametrize(("source", "synthetic"), [("mvtec", True), ("labelled.csv", False)])
def test_training_says_what_would_pass_and_by_which_defects(source, synthetic, tiny_data, tmp_path, capsys):
    run = train(
        tiny_data.folder / source, out=tmp_path / "run", method="patchcore", options=OPTIONS,
        calibration="held-out", progress=False,
    )  # fmt: skip
    escapes = open_bundle(run).manifest.calibration.escapes
    assert [own.false_alarm for own in escapes] == [0.01, 0.05]
    assert {own.synthetic for own in escapes} == {synthetic}
    assert all(0 <= own.passed <= own.defects > 0 for own in escapes)
    _show(run)
    words = "synthetic defects" if synthetic else "defective validation images"
    assert f"{escapes[0].defects} {words} would pass" in capsys.readouterr().out
