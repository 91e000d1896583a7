"""Progress as JSON lines and as log messages."""

import json
from datetime import datetime

import pytest

from blemish.training.learn import progress
from blemish.training.train import train


@pytest.mark.parametrize(
    ("method", "options", "steps"),
    [
        (
            "patchcore",
            {"image_size": 64, "coreset_ratio": 0.2, "batch_size": 4},
            3,
        ),  # one pass: batches
        ("autoencoder", {"image_size": 64, "batch_size": 4, "steps": 6}, 6),
    ],
)
def test_the_run_folder_holds_a_line_of_json_for_each_report(method, options, steps, tiny_data, tmp_path, monkeypatch):
    monkeypatch.setattr(progress, "FILE_EVERY_S", 0.0)
    run = train(
        tiny_data.folder / "mvtec",
        out=tmp_path / "run",
        method=method,
        options=options,
        progress=False,
        calibration="held-out",
    )
    lines = [json.loads(line) for line in progress.progress_file(run).read_text().splitlines()]
    assert [line["step"] for line in lines] == [*range(steps + 1), steps]
    assert {line["steps"] for line in lines} == {steps}
    assert [line["share"] for line in lines] == pytest.approx([*(i / steps for i in range(steps + 1)), 1], abs=1e-4)
    assert {line["stage"] for line in lines} == {"fit"}
    assert lines[0]["remaining_s"] is None
    assert lines[-1]["remaining_s"] == 0
    assert all(datetime.fromisoformat(line["time"]).tzinfo for line in lines)
    assert all((line["loss"] is not None) == (method == "autoencoder") for line in lines[1:-1])


def test_cross_fitting_counts_all_its_trainings(tiny_data, tmp_path, monkeypatch):
    monkeypatch.setattr(progress, "FILE_EVERY_S", 0.0)
    run = train(
        tiny_data.folder / "mvtec", out=tmp_path / "run", method="padim", options={"image_size": 64, "dimensions": 8},
        calibration="cross-fitted", folds=2, progress=False,
    )  # fmt: skip
    lines = [json.loads(line) for line in progress.progress_file(run).read_text().splitlines()]
    assert list(dict.fromkeys(line["stage"] for line in lines)) == ["fold 1 of 2", "fold 2 of 2", "fit"]
    shares = [line["share"] for line in lines]
    assert shares == sorted(shares)
    assert next(line["share"] for line in lines if line["stage"] == "fold 2 of 2") == pytest.approx(1 / 3, abs=1e-3)
    assert shares[-1] == 1


def test_the_log_says_step_share_loss_and_time_left(tiny_data, tmp_path, monkeypatch, caplog):
    monkeypatch.setattr(progress, "FILE_EVERY_S", 0.0)
    monkeypatch.setattr(progress, "LOG_EVERY_S", 0.0)
    caplog.set_level("INFO", "blemish")
    options = {"image_size": 64, "batch_size": 4, "steps": 4}
    train(
        tiny_data.folder / "mvtec",
        out=tmp_path / "run",
        method="autoencoder",
        options=options,
        progress=False,
        calibration="held-out",
    )
    message = next(text for text in caplog.messages if text.startswith("fit: step 2 of 4, 50%, loss 0."))
    assert message.endswith("s left")
