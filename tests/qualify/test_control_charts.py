"""Run lengths of charts against published tables and against simulation; drift found in files of inspections."""

import csv
import json
import sys

import numpy as np
import pandas as pd
import pytest

import blemish.cli
from blemish.errors import DataError
from blemish.qualify.control_charts import (
    chart_cusum,
    chart_ewma,
    compute_ewma,
    cusum_arl,
    design_cusum,
    design_ewma,
    ewma_arl,
    one_sided_cusum_arl,
    simulate_run_lengths,
)
from blemish.qualify.drift import analyse_drift, read_scores


@pytest.mark.parametrize(
    ("weight", "limit", "printed"),
    [
        # Crowder, Technometrics 29 (1987), table 1
        (0.5, 2.0, {0: 26.45, 0.25: 20.12, 0.5: 11.89, 1: 4.91, 2: 1.94, 4: 1.05}),
        (0.05, 2.0, {0: 127.53, 0.25: 43.94, 0.5: 18.97, 1: 8.38, 2: 4.04, 4: 2.15}),
        # Lucas and Saccucci, Technometrics 32 (1990), table 3
        (0.5, 3.071, {0: 500, 0.5: 88.8, 1: 17.5, 2: 3.63, 5: 1.07}),
        (0.03, 2.437, {0: 500, 0.5: 29.3, 1: 12.6, 2: 5.99, 5: 2.55}),
        # SAS/QC manual (1999)
        (0.25, 3.0, {1: 11.154267016}),
    ],
)
def test_arl_of_the_ewma_as_printed(weight, limit, printed):
    found = {shift: ewma_arl(weight, limit, shift) for shift in printed}
    assert found == pytest.approx(printed, rel=5e-3)
    assert ewma_arl(0.25, 3.0, 1) == pytest.approx(11.154267016, abs=1e-8)


def test_arl_of_the_cusum_as_printed():
    # Lucas and Crosier, Technometrics 24 (1982), table 1: k = 0.5, h = 4
    printed = {0: 168, 0.25: 74.2, 0.5: 26.6, 0.75: 13.3, 1: 8.38, 1.5: 4.75, 2: 3.34, 3: 2.19, 4: 1.71, 5: 1.31}
    assert {shift: cusum_arl(0.5, 4, shift) for shift in printed} == pytest.approx(printed, rel=3e-3)
    # Montgomery, Introduction to Statistical Quality Control, table of the tabular CUSUM: k = 0.5, h = 5
    assert round(cusum_arl(0.5, 5)) == 465
    # Brook and Evans, Biometrika 59 (1972), section 4.3; Vance (1986), table 1, after Goel and Wu (1971)
    assert (one_sided_cusum_arl(0.5, 3), one_sided_cusum_arl(0.5, 3, 1.5)) == pytest.approx((117.59, 3.75), abs=0.01)
    assert one_sided_cusum_arl(0, 10) == pytest.approx(124.66, abs=0.01)
    assert one_sided_cusum_arl(0, 10, 0.5) == pytest.approx(20.37, abs=0.01)


def test_limits_of_a_wanted_arl():
    # Crowder, Journal of Quality Technology 21 (1989): limits for an ARL of 250
    printed = {0.05: 2.32, 0.1: 2.55, 0.15: 2.65, 0.2: 2.72, 0.25: 2.76}
    assert {weight: round(design_ewma(250, weight), 2) for weight in printed} == pytest.approx(printed, abs=0.011)
    assert cusum_arl(0.5, design_cusum(370)) == pytest.approx(370, rel=1e-6)


def shifted(shift):
    return lambda rng, shape: rng.normal(shift, 1, shape)


def arl_by_densities(weight, limit, shift, steps=400, side=801):
    """ARL of an EWMA with widening limits: the density of the average carried from part to part on a grid."""
    half = limit * np.sqrt(weight / (2 - weight) * (1 - (1 - weight) ** (2 * np.arange(1, steps + 1))))
    grid = np.linspace(-half[-1], half[-1], side)
    width = grid[1] - grid[0]
    moves = np.exp(-(((grid[:, None] - (1 - weight) * grid) / weight - shift) ** 2) / 2) / np.sqrt(2 * np.pi) / weight
    density = np.exp(-((grid / weight - shift) ** 2) / 2) / np.sqrt(2 * np.pi) / weight
    arl = 1.0
    for own in half:
        density = np.where(np.abs(grid) <= own, density, 0)
        arl += density.sum() * width
        density = moves @ density * width
    return arl


@pytest.mark.parametrize(("shift", "printed"), [(0.5, 32.5), (1.0, 9.0), (2.0, 2.8)])
def test_simulated_ewma_with_widening_limits(shift, printed):
    """Steiner, Journal of Quality Technology 31 (1999), table 2: weight 0.05, limit 3; printed to two digits."""
    lengths = simulate_run_lengths(shifted(shift), None, chart="ewma", parameters=(0.05, 3.0), runs=20_000)
    assert lengths.mean() == pytest.approx(arl_by_densities(0.05, 3.0, shift), rel=0.02)
    assert lengths.mean() == pytest.approx(printed, rel=0.04)


@pytest.mark.parametrize("shift", [0.0, 1.0])
def test_simulated_cusum_runs_as_long_as_computed(shift):
    lengths = simulate_run_lengths(shifted(shift), None, chart="cusum", parameters=(0.5, 4.0), runs=10_000)
    assert lengths.mean() == pytest.approx(cusum_arl(0.5, 4, shift), rel=0.04)


@pytest.mark.parametrize(("chart", "draw_chart", "parameters"), [
    ("ewma", chart_ewma, (0.1, 2.8)), ("cusum", chart_cusum, (0.5, 4.0)),
])  # fmt: skip
def test_the_simulated_charts_are_the_drawn_ones(chart, draw_chart, parameters):
    """Both give their first alarm at the same part."""
    for scores in np.random.default_rng(5).normal(0.8, 1, (50, 400)):
        steps = iter(scores)
        found = simulate_run_lengths(
            lambda rng, shape, steps=steps: np.full(shape, next(steps)),
            None, chart=chart, parameters=parameters, runs=1,
        )  # fmt: skip
        assert found[0] == np.argmax(draw_chart(scores, 0.0, 1.0, *parameters).alarms) + 1


def test_a_few_parts_make_a_baseline_with_more_false_alarms():
    known = simulate_run_lengths(shifted(0), None, chart="ewma", parameters=(0.1, 2.814), longest=3000)
    few = simulate_run_lengths(shifted(0), 20, chart="ewma", parameters=(0.1, 2.814), longest=3000)
    assert np.median(few) < np.median(known) / 2


def test_drift_is_found_where_it_begins_and_not_before():
    rng = np.random.default_rng(6)
    steady, moved = rng.normal(3, 0.5, 400), rng.normal(3.75, 0.5, 100)
    found = analyse_drift(np.concatenate([steady, moved]), 200)
    for chart in (found.ewma, found.cusum):
        assert chart.arl == pytest.approx(500, rel=1e-4)
        assert 400 < chart.first_alarm < 420
        assert chart.began == pytest.approx(401, abs=10)
    assert found.drifted
    assert not analyse_drift(steady, 200).drifted
    assert compute_ewma(steady, 200).drifted is False


def test_what_spoils_the_run_lengths_is_said():
    rng = np.random.default_rng(7)
    walk = np.zeros(300)
    for i in range(1, 300):
        walk[i] = 0.8 * walk[i - 1] + rng.normal()
    assert any("correlated" in line for line in analyse_drift(walk, 100).warnings)
    skewed = rng.lognormal(0, 0.8, 400)
    found = analyse_drift(skewed, 200)
    assert any("skewed" in line for line in found.warnings)
    assert found.cusum.arl_resampled < 250
    assert any("false alarm" in line for line in found.warnings)


def test_faults_are_refused():
    with pytest.raises(DataError, match="baseline of 100"):
        analyse_drift(np.arange(50.0), 100)
    with pytest.raises(DataError, match="the same"):
        analyse_drift(np.ones(200), 100)


def rows():
    rng = np.random.default_rng(8)
    for number in range(300):
        yield {
            "source": f"{number}.png",
            "verdict": "pass" if number % 10 else "reject",
            "score": rng.normal(),
            "region": "",
        }


def test_the_same_scores_from_every_kind_of_file(tmp_path, monkeypatch, capsys):
    table = list(rows())
    expected = [row["score"] for row in table if row["verdict"] == "pass"]
    with (tmp_path / "a.csv").open("w", newline="") as stream:
        writer = csv.DictWriter(stream, table[0])
        writer.writeheader()
        for row in table:  # an image with two regions has two rows
            writer.writerow(row | {"region": 1})
            writer.writerow(row | {"region": 2})
    (tmp_path / "a.jsonl").write_text("".join(json.dumps(row) + "\n" for row in table))
    assert read_scores(tmp_path / "a.csv") == pytest.approx(expected)
    assert read_scores(tmp_path / "a.jsonl") == pytest.approx(expected)
    monkeypatch.setattr(pd, "read_parquet", lambda path: pd.DataFrame(table))  # its reader is another library's
    assert read_scores(tmp_path / "a.parquet") == pytest.approx(expected)
    monkeypatch.setattr(blemish.cli, "COMMANDS", {"qualify": "Evaluate"})
    monkeypatch.setattr(sys, "argv", ["blemish", "qualify", "drift", str(tmp_path / "a.csv"), "--json", "-"])
    with pytest.raises(SystemExit) as left:
        blemish.cli.main()
    assert left.value.code == 0
    assert json.loads(capsys.readouterr().out)["parts"] == 270


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("a.csv", "source,verdict\na,pass\n", "has no score"),
        ("a.csv", "score,verdict\nx,pass\n", "which is no number"),
        ("a.jsonl", "[1]\n", "no JSON object"),
        ("a.jsonl", "{\n", "no valid jsonl"),
        ("a.txt", "", "give a .csv"),
    ],
)
def test_faults_of_files_are_named(tmp_path, name, text, message):
    (tmp_path / name).write_text(text)
    with pytest.raises(DataError, match=message):
        read_scores(tmp_path / name)
