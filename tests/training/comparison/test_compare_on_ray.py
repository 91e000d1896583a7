"""A comparison whose trainings are tasks on a Ray cluster of this machine: the same result, and it resumes."""

import pytest

from blemish.errors import OptionError
from blemish.inspection.bundle import open_bundle
from blemish.training.comparison.compare import compare
from blemish.training.comparison.on_ray import RayTasks
from blemish.training.comparison.runs import OtherRunError

pytest.importorskip("ray", reason="Ray is not installed")

QUICK = {"image_size": 64}


@pytest.fixture(autouse=True)
def quiet(monkeypatch):
    monkeypatch.setenv("RAY_AUTH_MODE", "disabled")


def quietly(data, out, methods, options=QUICK, **settings):
    return compare(data, out=out, methods=methods, options=options, progress=False, **settings)


@pytest.mark.slow
def test_trainings_on_a_cluster_give_the_same_comparison_and_resume(tiny_data, tmp_path):
    data, tasks = tiny_data.folder / "mvtec", RayTasks("local")
    here = quietly(data, tmp_path / "here", ["padim", "patchcore"])
    quietly(data, tmp_path / "there", ["padim"], tasks=tasks)
    first = open_bundle(tmp_path / "there" / "runs" / "padim").path.stat().st_mtime_ns
    there = quietly(data, tmp_path / "there", ["padim", "patchcore"], tasks=tasks)
    assert open_bundle(tmp_path / "there" / "runs" / "padim").path.stat().st_mtime_ns == first
    values = [{row["method"]: row["value"] for row in own["ranking"]} for own in (here, there)]
    assert values[0] == values[1]
    for method in ("padim", "patchcore"):
        graphs = [open_bundle(tmp_path / place / "runs" / method).graph for place in ("here", "there")]
        assert graphs[0] == graphs[1]
    with pytest.raises(OtherRunError, match="image_size"):
        quietly(data, tmp_path / "there", ["padim", "subspace"], {"image_size": 32}, tasks=tasks)


def test_a_budget_does_not_go_with_trainings_at_the_same_time(tiny_data, tmp_path):
    with pytest.raises(OptionError, match="budget"):
        quietly(tiny_data.folder / "mvtec", tmp_path, ["padim"], budget=60.0, tasks=RayTasks("local"))
