"""A benchmark whose trainings are tasks on a Ray cluster of this machine: the same rows."""

import pytest

from blemish.training.benchmark.benchmark import benchmark
from blemish.training.benchmark.on_ray import run_on_ray
from blemish.training.benchmark.rows import read_rows
from blemish.training.comparison.on_ray import RayTasks

pytest.importorskip("ray", reason="Ray is not installed")


@pytest.mark.slow
def test_trainings_on_a_cluster_give_the_same_rows(tiny_data, tmp_path, monkeypatch):
    monkeypatch.setenv("RAY_AUTH_MODE", "disabled")
    given = {"methods": ["padim", "dfm"], "seeds": [0], "options": {"image_size": 64}}
    benchmark(tiny_data.folder / "mvtec", out=tmp_path / "here", **given)
    result = benchmark(
        tiny_data.folder / "mvtec", out=tmp_path / "there", execute=run_on_ray(RayTasks("local")), **given
    )
    assert not result.failed
    here, there = ({row.key: row.metrics for row in read_rows(tmp_path / p / "rows.jsonl")} for p in ("here", "there"))
    assert here == there
