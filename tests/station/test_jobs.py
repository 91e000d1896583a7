"""Trainings in the background."""

import json
import os
from pathlib import Path

import pytest
from station_helpers import wait_until

from blemish.cli import build_app
from blemish.errors import DataError
from blemish.station.jobs import BusyError, JobRunner, TrainingJob, compare_commands, train_commands


@pytest.mark.slow
def test_a_training_runs_and_ends_with_a_bundle(tmp_path: Path) -> None:
    jobs = JobRunner(tmp_path / "jobs")
    data = tmp_path / "data"
    job = jobs.start("draw", [["synth", str(data), "--train", "12", "--good", "4", "--defects", "1"]], "anna")
    wait_until(lambda: job.state != "running", 120)
    job = jobs.start("learn", train_commands(data, "patchcore", ["coreset_ratio=0.02"], 10.0), "anna")
    seen = set()
    wait_until(lambda: seen.add(job.progress and job.progress.stage) or job.state != "running", 300)
    assert seen > {None}  # the training has written its progress
    assert job.state == "done", job.lines
    assert list(job.bundles) == ["run"]
    assert job.report is not None


def test_jobs_run_one_at_a_time_fail_are_cancelled_and_remembered(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)  # "station" is where a station keeps its data by default: below the present folder
    jobs = JobRunner(Path("jobs"))
    failing = jobs.start("inspect", [["inspect", "nowhere.blemish", "none.png"], ["synth", "{folder}/never"]], "anna")
    with pytest.raises(BusyError):
        jobs.start("another", [["synth", "x"]], "anna")
    wait_until(lambda: failing.state != "running", 60)
    assert failing.state == "failed"
    assert any("nowhere.blemish" in line for line in failing.lines)
    assert not (failing.folder / "never").exists()
    long = jobs.start("draw", [["synth", "{folder}/data", "--train", "100000"]], "anna")
    wait_until(lambda: (tmp_path / "jobs" / long.id / "data").exists(), 60)
    jobs.cancel(long.id)
    wait_until(lambda: long.ended is not None, 30)
    assert long.state == "cancelled"
    drawn = len(list((long.folder / "data").rglob("*.png")))
    assert drawn == len(list((long.folder / "data").rglob("*.png"))) < 100000

    def remembered() -> dict[str, str]:
        return {job.id: str(job.state) for job in JobRunner(tmp_path / "jobs").all()}

    # The job has ended a moment before that is written down; until then it stands there as running.
    wait_until(lambda: "interrupted" not in remembered().values(), 10)
    assert remembered() == {failing.id: "failed", long.id: "cancelled"}


def test_jobs_run_commands_that_exist(tmp_path: Path) -> None:
    from typer.main import get_command

    program = get_command(build_app())
    options = ["image_size=64", "deep-svdd.epochs=2"]
    by_hand = {"methods": "deep-svdd,fcdd", "budget": "1h30m", "set_": options}
    for command, wanted in (
        (train_commands(tmp_path, "fcdd", options, 12.5)[0], {"method": "fcdd", "px_per_mm": "12.5", "set_": options}),
        (train_commands(tmp_path, None, [], None)[0], {"method": None, "data": str(tmp_path)}),
        (train_commands(tmp_path, None, [], None)[1], {"data": str(tmp_path)}),
        (compare_commands(tmp_path, ["deep-svdd", "fcdd"], options, "1h30m")[0], by_hand),
        (compare_commands(tmp_path, [], [], "")[0], {"methods": "auto", "budget": None}),
    ):  # fmt: skip
        name, *arguments = command
        parsed = program.commands[name].make_context(name, arguments).params  # type: ignore[attr-defined]
        assert {key: parsed[key] for key in wanted} == wanted
    for wrong in ("--device=cuda", "-x=1", "epochs", "=3"):
        with pytest.raises(DataError, match="NAME=VALUE"):
            train_commands(tmp_path, None, [wrong], None)
        with pytest.raises(DataError, match="NAME=VALUE"):
            compare_commands(tmp_path, [], [wrong], "")


def test_progress_is_read_from_the_run_that_wrote_last(tmp_path: Path) -> None:
    job = TrainingJob(folder=tmp_path, title="compare", user="anna", commands=[["compare"]])
    assert job.progress is None
    for method, share in (("aae", 1.0), ("fcdd", 0.25)):
        file = tmp_path / "run" / "runs" / method / "progress.jsonl"
        file.parent.mkdir(parents=True)
        line = {"time": "2026-01-01T00:00:00", "stage": "fit", "epoch": 1, "step": 5, "steps": 20, "share": share}
        file.write_text(
            json.dumps({**line, "share": 0.0}) + "\n" + json.dumps({**line, "loss": 0.5}) + '\n{"stage": "fi'
        )
        os.utime(file, (0, share == 0.25))
    progress = job.progress
    assert progress is not None
    assert (progress.run, progress.stage, progress.epoch, progress.share, progress.loss) == (
        "fcdd",
        "fit",
        1,
        0.25,
        0.5,
    )


def test_a_comparison_offers_its_choice_first_and_its_own_page(tmp_path: Path) -> None:
    job = TrainingJob(
        folder=tmp_path, title="compare", user="anna", commands=[["compare"]], px_per_mm=12.5, state="done"
    )
    for name in ("runs/fcdd/fcdd", "runs/aae/aae", "choice"):
        (tmp_path / "run" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "run" / f"{name}.blemish").touch()
        (tmp_path / "run" / f"{name.replace('choice', 'comparison')}.html").touch()
    assert list(job.bundles) == ["choice", "aae", "fcdd"]
    assert job.report == tmp_path / "run" / "comparison.html"
    job.folder = tmp_path / "jobs" / "one"
    job.folder.mkdir(parents=True)
    job.save()
    assert JobRunner(tmp_path / "jobs").all()[0].px_per_mm == 12.5
