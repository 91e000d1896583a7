"""`blemish plan`, `blemish train --plan` and `blemish compare` on the command line."""

import csv
import json
import re

import pytest
import yaml
from typer.testing import CliRunner

from blemish.cli import build_app
from blemish.cli.train import merge
from blemish.errors import BlemishError
from blemish.inspection.bundle import open_bundle
from blemish.training.learn.run import read_config


def blemish(*arguments):
    result = CliRunner().invoke(build_app(), [str(a) for a in arguments], env={"COLUMNS": "120"})
    if result.exception is not None:
        raise result.exception
    return result.output


def test_the_command_line_overrides_the_plan(tiny_data, tmp_path):
    plan, data = tmp_path / "plan.yaml", tiny_data.folder / "mvtec"
    output = blemish("plan", data, "--out", plan, "--seed", 2, "--no-probe")
    assert len(output.splitlines()) < 45
    for words in ("patchcore", "defects unknown", "view", "benefit of more images", "train --plan"):
        assert words in output
    written = yaml.safe_load(plan.read_text())
    printed = blemish("plan", data, "--out", plan, "--seed", 2, "--no-probe", "--json", "-")
    assert json.loads(printed) == written
    written["train"] |= {"options": {"image_size": 64, "coreset_ratio": 0.3}, "false_alarm": 0.05, "review": 0.2}
    plan.write_text(yaml.safe_dump(written))
    blemish("train", "--plan", plan, "--out", tmp_path / "run", "--set", "coreset_ratio=0.2", "--review", "0.3")
    config = read_config(tmp_path / "run")
    assert config.method == "patchcore"
    assert (config.options["image_size"], config.options["coreset_ratio"]) == (64, 0.2)
    assert (config.seed, config.false_alarm, config.review) == (2, 0.05, 0.3)


def test_another_method_or_other_data_replace_their_settings_of_the_plan():
    planned = {"data": "a", "format": "csv", "root": "r", "method": "unet", "options": {"steps": 9}, "seed": 4}
    assert merge(planned, None, None, {}, {}) == ("a", "unet", {"steps": 9}, {"format": "csv", "root": "r", "seed": 4})
    assert merge(planned, "b", "fcn", {"crop": 64}, {"seed": 5}) == ("b", "fcn", {"crop": 64}, {"seed": 5})


def test_compare_names_its_choice(tiny_data, tmp_path):
    data, out = tiny_data.folder / "mvtec", tmp_path / "out"
    output = blemish(
        "compare", data, "--methods", "padim, patchcore, classifier", "--set", "image_size=64", "--out", out
    )
    chosen = open_bundle(out).manifest.provenance.method
    assert f"choice: {chosen}" in output
    assert "classifier is left out" in output
    assert "based on the 20 test images" in " ".join(output.split())
    assert (out / "comparison.html").stat().st_size > 10_000


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--methods", "patchcor"], "did you mean patchcore"),
        (["--methods", "patchcore", "--budget", "soon"], "use 90s"),
        (["--methods", "patchcore", "--folds", "1"], "2 folds or more"),
        (["--methods", "patchcore", "--set", "padim.blur=1"], "none of the methods compared"),
        (["--methods", "patchcore", "--set", "coreset_ration=1"], "has an option 'coreset_ration'"),
        (["--methods", ","], "name the methods"),
    ],
)
def test_bad_input_is_reported_before_anything_is_trained(tiny_data, tmp_path, arguments, words):
    with pytest.raises(BlemishError, match=re.escape(words)):
        blemish("compare", tiny_data.folder / "mvtec", "--out", tmp_path / "out", *arguments)
    assert not (tmp_path / "out").exists()


def test_no_annotations_in_the_test_images(tiny_data, tmp_path):
    rows = csv.DictReader((tiny_data.folder / "labelled.csv").read_text("utf-8").splitlines(keepends=True))
    lines = [f"{tiny_data.folder / r['image']},{r['label'] if r['label'] == 'good' else ''},"
             f"{'train' if r['label'] == 'good' else 'test'}" for r in rows]  # fmt: skip
    (tmp_path / "data.csv").write_text("\n".join(["image,label,split", *lines]))
    with pytest.raises(BlemishError, match="hold known defects"):
        blemish("compare", tmp_path / "data.csv", "--methods", "padim", "--out", tmp_path / "out")
