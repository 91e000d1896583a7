"""Drift of the scores of good parts, from a file of inspections: EWMA and CUSUM with stated run lengths."""

import csv
import json
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from blemish.arrays import Scores
from blemish.errors import DataError, MissingExtraError, OptionError
from blemish.qualify.control_charts import (
    CUSUM_SLACK,
    EWMA_WEIGHT,
    chart_cusum,
    chart_ewma,
    cusum_arl,
    design_cusum,
    design_ewma,
    ewma_arl,
    simulate_run_lengths,
)

MIN_BASELINE = 20
SHIFTS = (0.5, 1.0, 2.0)  # standard deviations, for which the ARL is stated
SIMULATED_FACTOR = 10  # of the nominal ARL: the longest simulated run


@dataclass(frozen=True)
class ChartResult:
    """One chart. Part numbers count the scores from 1; alarms within the baseline are not looked for."""

    limit: float  # in standard deviations
    arl: float  # nominal, without a change: normal scores, known mean and deviation
    arl_shifted: dict[str, float]  # nominal, after a shift by so many standard deviations
    arl_resampled: float  # simulated with scores and a baseline drawn from this one's: what to expect here
    first_alarm: int | None
    alarms: int  # parts that are out of limits
    began: int | None  # where the change that raised the first alarm may have begun


@dataclass(frozen=True)
class DriftAnalysis:
    parts: int
    baseline: int
    mean: float
    sigma: float
    skewness: float  # of the baseline
    autocorrelation: float  # of neighbours in the baseline
    ewma: ChartResult
    cusum: ChartResult
    drifted: bool  # one of the charts has an alarm
    warnings: list[str] = field(default_factory=list)


def analyse_drift(
    scores: Scores, baseline: int, arl: float = 500.0, weight: float = EWMA_WEIGHT, slack: float = CUSUM_SLACK
) -> DriftAnalysis:
    """Charts of scores (N,) in their order, with limits for the given ARL; raises DataError for too few parts.

    The baseline gives mean and deviation; the charts start after it.
    """
    if baseline < MIN_BASELINE or baseline >= len(scores):
        raise DataError(
            f"{len(scores)} good parts and a baseline of {baseline}: a baseline has {MIN_BASELINE} parts or more, and "
            "others follow it"
        )
    first = scores[:baseline]
    mean, sigma = float(first.mean()), float(first.std(ddof=1))
    if sigma <= 0:
        raise DataError("all scores of the baseline are the same: no limits can be made of them")
    if not 1 < arl < 1e6:
        raise OptionError(f"an average run length of {arl:g} parts: give one above 1")
    z = (scores - mean) / sigma
    ewma_limit, cusum_limit = design_ewma(arl, weight), design_cusum(arl, slack)
    ewma = _ewma_after(z[baseline:], weight, ewma_limit)
    cusum = _cusum_after(z[baseline:], slack, cusum_limit)
    skewness, correlation = float((z[:baseline] ** 3).mean()), float((z[: baseline - 1] * z[1:baseline]).mean())
    results = []
    for chart, parameters, nominal, shifted, (outside, began) in (
        ("ewma", (weight, ewma_limit), ewma_arl, {s: ewma_arl(weight, ewma_limit, s) for s in SHIFTS}, ewma),
        ("cusum", (slack, cusum_limit), cusum_arl, {s: cusum_arl(slack, cusum_limit, s) for s in SHIFTS}, cusum),
    ):
        lengths = simulate_run_lengths(
            lambda rng, shape: rng.choice(first, shape),
            baseline,
            chart=chart,
            parameters=parameters,
            longest=int(min(SIMULATED_FACTOR * arl, 20_000)),
        )
        alarm = int(np.argmax(outside)) if outside.any() else None
        results.append(
            ChartResult(
                limit=parameters[1],
                arl=nominal(*parameters),
                arl_shifted={f"{shift:g}": value for shift, value in shifted.items()},
                arl_resampled=float(lengths.mean()),
                first_alarm=None if alarm is None else baseline + alarm + 1,
                alarms=int(outside.sum()),
                began=None if alarm is None else baseline + began + 1,
            )
        )
    return DriftAnalysis(
        parts=len(scores),
        baseline=baseline,
        mean=mean,
        sigma=sigma,
        skewness=skewness,
        autocorrelation=correlation,
        ewma=results[0],
        cusum=results[1],
        drifted=any(one.first_alarm is not None for one in results),
        warnings=_warnings(baseline, skewness, correlation, min(one.arl_resampled for one in results), arl),
    )


def _ewma_after(z: Scores, weight: float, limit: float) -> tuple[NDArray[np.bool_], int]:
    """Alarms of the parts after the baseline, and where the run on the alarm's side of the mean began."""
    chart = chart_ewma(z, 0.0, 1.0, weight, limit)
    return chart.alarms, _run_start(chart.values, chart.alarms)


def _cusum_after(z: Scores, slack: float, limit: float) -> tuple[NDArray[np.bool_], int]:
    """Alarms of the parts after the baseline, and where the sum that raised the first one left 0."""
    chart = chart_cusum(z, 0.0, 1.0, slack, limit)
    if not chart.alarms.any():
        return chart.alarms, 0
    alarm = int(np.argmax(chart.alarms))
    sums = chart.rising if chart.rising[alarm] > chart.limit else chart.falling
    return chart.alarms, _run_start(sums, chart.alarms)


def _run_start(values: Scores, alarms: NDArray[np.bool_]) -> int:
    """The first of the values before the first alarm that are all of its sign."""
    if not alarms.any():
        return 0
    alarm = int(np.argmax(alarms))
    others = np.flatnonzero(np.sign(values[:alarm]) != np.sign(values[alarm]))
    return int(others[-1]) + 1 if len(others) else 0


def _warnings(baseline: int, skewness: float, correlation: float, resampled: float, arl: float) -> list[str]:
    found = []
    if abs(correlation) > 2 / math.sqrt(baseline):
        found.append(
            f"neighbouring scores of the baseline are correlated ({correlation:.2f}): alarms come without a change; "
            "chart every nth part, or means of groups"
        )
    if abs(skewness) > 2 * math.sqrt(6 / baseline):
        found.append(f"the scores of the baseline are skewed ({skewness:.2f}): the nominal run lengths do not hold")
    if resampled < arl / 2:
        found.append(
            f"with a baseline like this one a false alarm comes after {resampled:.0f} parts on average instead of "
            f"{arl:.0f}; take a longer baseline"
        )
    return found


def read_scores(path: Path, verdicts: tuple[str, ...] = ("pass",)) -> Scores:
    """Scores (N,) of the inspections with one of the verdicts, in the order of a CSV, JSON lines or Parquet file.

    A row for each further region of an image is left out. Raises DataError for a file that is not of that kind.
    """
    scores = []
    for number, row in enumerate(_read_rows(path), 1):
        if "score" not in row or "verdict" not in row:
            raise DataError(f"{path}: inspection {number} has no score or verdict; give what `blemish inspect` wrote")
        if str(row["verdict"]) not in verdicts or _is_further_region(row):
            continue
        try:
            score = float(row["score"])
        except (TypeError, ValueError):
            score = math.nan
        if not math.isfinite(score):
            raise DataError(f"{path}: inspection {number} has the score '{row['score']}', which is no number")
        scores.append(score)
    return np.array(scores, np.float64)


def _is_further_region(row: Mapping[str, Any]) -> bool:
    """Of a table with a row a region: not the first region of its image."""
    try:
        return float(row.get("region") or 1) > 1
    except (TypeError, ValueError):
        return False


def _read_rows(path: Path) -> Iterator[Mapping[str, Any]]:
    kind = path.suffix.lower()
    try:
        if kind == ".parquet":
            yield from _read_parquet(path)
        elif kind in (".json", ".jsonl", ".ndjson"):
            with path.open(encoding="utf-8") as stream:
                for number, line in enumerate(stream, 1):
                    if line.strip():
                        row = json.loads(line)
                        if not isinstance(row, dict):
                            raise DataError(f"{path}, line {number}: no JSON object")
                        yield row
        elif kind == ".csv":
            with path.open(encoding="utf-8-sig", newline="") as stream:
                yield from csv.DictReader(stream)
        else:
            raise DataError(f"{path}: give a .csv, .jsonl or .parquet file of inspections")
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror or error}") from error
    except (ValueError, csv.Error) as error:
        raise DataError(f"{path} is no valid {kind[1:]} file: {' '.join(str(error).split())[:200]}") from error


def _read_parquet(path: Path) -> Iterator[Mapping[str, Any]]:
    try:
        frame = import_module("pandas").read_parquet(path)
    except ImportError as error:
        raise MissingExtraError(
            "Parquet files need pandas and pyarrow; pip install 'blemish[pandas]' pyarrow"
        ) from error
    yield from frame.to_dict("records")
