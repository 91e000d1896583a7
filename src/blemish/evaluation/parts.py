"""Evaluation by part, of several views: one verdict a part, by a bundle for each view and rules over all views.

An image's `view` says which bundle inspects it, its `group` which part it shows. A part is defective where any of its
views is, good where all are, else nothing is known of it. A part that lacks a view is never passed, as at a station.
"""

from collections import Counter, defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from blemish.dataset.sample import Dataset, Sample
from blemish.errors import DataError
from blemish.evaluation.intervals import RateEstimate, estimate_rate
from blemish.inspection.inspector import Inspector
from blemish.inspection.pipeline import FailedInspection
from blemish.inspection.result import Inspection, Verdict
from blemish.inspection.views import fuse_views


@dataclass(frozen=True, slots=True)
class EvaluatedPart:
    """One part."""

    name: str
    defective: bool | None
    verdict: Verdict
    by_view: dict[str, Verdict | None]  # None: missing, or could not be inspected


@dataclass(frozen=True, slots=True)
class PartEvaluation:
    """Rates are None where there are no such parts."""

    parts: list[EvaluatedPart]
    escape: RateEstimate | None  # defective parts that passed
    overkill: RateEstimate | None  # good parts that were rejected
    review: RateEstimate  # parts that a person must look at
    incomplete: int  # parts that lack a view
    found_by: dict[str, int] = field(default_factory=dict)  # defective parts that this view alone did not pass

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)


def group_parts(dataset: Dataset, views: Sequence[str]) -> dict[str, dict[str, Sample]]:
    """Samples by part and view; raises DataError where the data do not say what is a part, or a view is not known."""
    parts: defaultdict[str, dict[str, Sample]] = defaultdict(dict)
    for sample in dataset.samples:
        if sample.group is None or sample.view is None:
            raise DataError(f"{sample.image} has no {'part (column group)' if sample.group is None else 'view'}")
        if sample.view not in views:
            raise DataError(f"{sample.image} is the view '{sample.view}', for which there is no bundle")
        if sample.view in parts[sample.group]:
            raise DataError(f"part {sample.group} has the view '{sample.view}' twice")
        parts[sample.group][sample.view] = sample
    return dict(parts)


def evaluate_parts(
    inspectors: Mapping[str, Inspector],
    dataset: Dataset,
    rules: Sequence[str] = (),
    on_part: Callable[[EvaluatedPart], None] | None = None,
) -> PartEvaluation:
    """Inspect each part by its views; raises DataError where there are none."""
    parts = []
    for name, samples in group_parts(dataset, list(inspectors)).items():
        part = _evaluate_part(name, samples, inspectors, rules)
        parts.append(part)
        if on_part is not None:
            on_part(part)
    if not parts:
        raise DataError("there are no parts to evaluate")
    verdicts = Counter((part.defective, part.verdict) for part in parts)
    of_kind = Counter(part.defective for part in parts)
    alone: Counter[str] = Counter()
    for part in parts:
        finders = [view for view, verdict in part.by_view.items() if verdict not in (Verdict.PASS, None)]
        if part.defective and len(finders) == 1:
            alone[finders[0]] += 1
    return PartEvaluation(
        parts,
        estimate_rate(verdicts[True, Verdict.PASS], of_kind[True]) if of_kind[True] else None,
        estimate_rate(verdicts[False, Verdict.REJECT], of_kind[False]) if of_kind[False] else None,
        estimate_rate(sum(part.verdict == Verdict.REVIEW for part in parts), len(parts)),
        sum(None in part.by_view.values() for part in parts),
        {view: alone[view] for view in inspectors},
    )


def _evaluate_part(
    name: str, samples: Mapping[str, Sample], inspectors: Mapping[str, Inspector], rules: Sequence[str]
) -> EvaluatedPart:
    done: dict[str, Inspection | None] = dict.fromkeys(inspectors)
    for view, sample in samples.items():
        (result,) = inspectors[view].inspect_batch([sample])
        done[view] = None if isinstance(result, FailedInspection) else result
    known = [sample.defective for sample in samples.values()]
    complete = len(samples) == len(inspectors) and None not in known
    defective = True if True in known else False if complete else None
    by_view = {view: None if result is None else result.verdict for view, result in done.items()}
    return EvaluatedPart(name, defective, fuse_views(done, rules).verdict, by_view)
