"""How many defective parts would pass if the threshold were set for a false-alarm rate: the choice is the user's."""

from collections.abc import Sequence

import numpy as np

from blemish.arrays import Scores
from blemish.dataset.sample import Sample, sort_by_name
from blemish.evaluation.image_metrics import FALSE_ALARMS
from blemish.evaluation.units import Units, estimate_share
from blemish.inspection.inspector import Inspector
from blemish.inspection.manifest import EscapeForecast
from blemish.training.ship.calibrate import good_threshold
from blemish.training.ship.synthetic_trials import synthetic_trials

TRIALS = 60  # synthetic defects, where there are no real ones


def forecast_escapes(
    good: Scores, defective: Scores, synthetic: bool, good_units: Units | None = None, units: Units | None = None
) -> list[EscapeForecast]:
    """The share of defective scores below the threshold for each of FALSE_ALARMS; none without scores of both kinds.

    `units` are those of the defective scores.
    """
    if not len(good) or not len(defective):
        return []
    forecasts = []
    for rate in FALSE_ALARMS:
        threshold = good_threshold(good, rate, good_units)
        passed = defective < threshold
        share = estimate_share(passed, units)
        forecasts.append(
            EscapeForecast(
                false_alarm=rate,
                threshold=threshold,
                passed=int(passed.sum()),
                defects=len(defective),
                interval=(share.low, share.high),
                synthetic=synthetic,
            )
        )
    return forecasts


def score_synthetic_defects(inspector: Inspector, samples: Sequence[Sample], seed: int) -> Scores:
    """Scores of synthetic defects on good images; none for a bundle that compares with reference images."""
    good = sort_by_name(s for s in samples if s.defective is False)
    if inspector.manifest.template or not good:
        return np.empty(0)
    trials = synthetic_trials(good, TRIALS, seed, "judge", inspector.manifest.input.pixels)
    return np.array([inspector.inspect(trial.image, valid=trial.valid).score for trial in trials])


def forecast_sentence(forecasts: Sequence[EscapeForecast]) -> str:
    """One line: of so many defects, how many would pass at each false-alarm rate."""
    first = forecasts[0]
    kind = "synthetic defects" if first.synthetic else "defective validation images"
    each = "; ".join(
        f"{own.passed} at {own.false_alarm:.0%} false alarms ({own.passed / own.defects:.0%}, "
        f"95 %: {own.interval[0]:.0%}–{own.interval[1]:.0%}, threshold {own.threshold:.4g})"
        for own in forecasts
    )
    return f"of {first.defects} {kind} would pass: {each}"
