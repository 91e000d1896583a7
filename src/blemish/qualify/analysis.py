"""All analyses that a gauge study allows."""

from collections.abc import Collection
from typing import Any

from blemish.errors import DataError, OptionError
from blemish.qualify.attribute import GOOD_VERDICTS, AttributeAgreement, analyse_agreement
from blemish.qualify.bias import LinearityStudy, TypeOneStudy, study_linearity, study_type_one
from blemish.qualify.study import GaugeStudy
from blemish.qualify.variable import ALPHA, GaugeRR, analyse_variation

GaugeAnalysis = AttributeAgreement | GaugeRR | TypeOneStudy | LinearityStudy


def analyse_study(
    study: GaugeStudy,
    kind: str = "auto",
    tolerance: float | None = None,
    good: Collection[str] = GOOD_VERDICTS,
    alpha: float = ALPHA,
) -> dict[str, GaugeAnalysis]:
    """The analyses that `kind` asks for, by name: attribute, type_1, variable, linearity.

    `kind` is "attribute", "variable", "type-1", "linearity", or "auto" for all that the study allows.

    Raises OptionError for a kind that the study's columns do not allow, DataError where it has too few readings.
    """
    if study.attribute:
        if kind not in ("auto", "attribute"):
            raise OptionError(f"--kind {kind} needs a column value; the study has verdicts")
        return {"attribute": analyse_agreement(study.appraisers, study.results, study.reference, good)}
    if kind == "attribute":
        raise OptionError("--kind attribute needs a column verdict; the study has values")
    values: Any = study.results
    reference: Any = study.reference
    parts, _, repeats = values.shape
    if kind in ("type-1", "linearity") and reference is None:
        raise OptionError(f"--kind {kind} needs the known value of each part, in a column reference")
    if kind == "type-1" and parts > 1:
        raise OptionError(f"a type-1 study measures one part; this one has {parts}")
    results: dict[str, GaugeAnalysis] = {}
    if parts == 1:
        if reference is None:
            raise DataError("a study of one part needs its known value, in a column reference")
        results["type_1"] = study_type_one(values.ravel(), float(reference[0]), tolerance)
    if kind == "variable" or (kind == "auto" and parts > 1 and repeats > 1):
        results["variable"] = analyse_variation(values, tolerance, alpha)
    if kind == "linearity" or (kind == "auto" and reference is not None and len(set(reference.tolist())) > 2):
        results["linearity"] = study_linearity(values.reshape(parts, -1), reference)
    if not results:
        raise DataError("the study allows no analysis: it has no repeats, and less than three known values")
    return results
