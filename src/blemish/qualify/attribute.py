"""Attribute agreement analysis of verdicts: within and between appraisers, and against the reference.

Effectiveness, miss rate and false-alarm rate, and their guide values, follow AIAG, Measurement Systems Analysis,
4th edition (2010), chapter III section C. Intervals of rates are exact (Clopper and Pearson 1934) over parts.
"""

from collections.abc import Collection
from dataclasses import dataclass, field
from itertools import combinations
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from blemish.arrays import Flags
from blemish.errors import DataError
from blemish.evaluation.intervals import RateEstimate, clopper_pearson, estimate_rate
from blemish.qualify.kappa import Kappa, cohen_interval, fleiss_interval

GOOD_VERDICTS = ("good", "pass", "ok")
# Words for a part that is stopped, whatever its defect.
STOPPED = ("bad", "defect", "defective", "fail", "failed", "ng", "nio", "nok", "not ok", "reject", "rejected", "scrap",
           "stop", "stopped")  # fmt: skip
UNDECIDED = "review"  # a verdict of its own, which stops the part too
MIN_PARTS = 50  # AIAG's number of parts
Grade = Literal["acceptable", "marginal", "unacceptable"]


@dataclass(frozen=True)
class AppraiserAgreement:
    """One appraiser. Without a reference, or without repeats, the figures that need them are None."""

    name: str
    within: RateEstimate | None  # parts on which all own repeats agree
    within_kappa: Kappa | None
    effectiveness: RateEstimate | None  # parts on which all repeats agree with the reference
    reference_kappa: Kappa | None
    miss_rate: RateEstimate | None  # decisions that call a defective part good; n: decisions
    false_alarm_rate: RateEstimate | None  # decisions that stop a good part
    grade: Grade | None  # by AIAG's guide values for the three


@dataclass(frozen=True)
class PairAgreement:
    first: str
    second: str
    kappa: Kappa


@dataclass(frozen=True)
class AttributeAgreement:
    """All of an attribute study."""

    parts: int
    repeats: int
    categories: list[str]
    appraisers: list[AppraiserAgreement]
    between: RateEstimate | None  # parts on which all appraisers and repeats agree
    between_kappa: Kappa | None  # Fleiss, all ratings of a part
    pairs: list[PairAgreement]  # Cohen, paired by repeat
    system: RateEstimate | None  # parts on which all agree with the reference
    warnings: list[str] = field(default_factory=list)


def analyse_agreement(
    appraisers: list[str],
    verdicts: NDArray[np.str_],
    reference: NDArray[np.str_] | None,
    good: Collection[str] = GOOD_VERDICTS,
) -> AttributeAgreement:
    """Agreement of verdicts (P, A, R) with each other and with the reference (P,).

    A verdict named in `good` (any case) passes the part, every other one stops it; all words of `good` mean the same,
    and so do those of STOPPED. Raises DataError where there is nothing to compare, or verdicts and reference have no
    words for defective parts in common and some that are not known.
    """
    parts, number, repeats = verdicts.shape
    if parts < 2 or (number * repeats < 2 and reference is None):
        raise DataError("an attribute study has at least two parts, and repeats, several appraisers or a reference")
    names = {name.lower() for name in good}
    lower = np.char.lower(verdicts)
    truth = None if reference is None else np.char.lower(reference)
    lower, truth = _in_same_words(lower, truth, names)
    categories, codes = np.unique(np.concatenate([lower.ravel(), [] if truth is None else truth]), return_inverse=True)
    ratings, known = codes[: lower.size].reshape(lower.shape), codes[lower.size :]
    passes = np.isin(categories, sorted(names))
    own = [
        _analyse_appraiser(name, ratings[:, i], known if truth is not None else None, passes)
        for i, name in enumerate(appraisers)
    ]
    flat = ratings.reshape(parts, -1)
    same = (flat == flat[:, :1]).all(axis=1)
    pairs = [
        PairAgreement(appraisers[i], appraisers[j], cohen_interval(ratings[:, i], ratings[:, j]))
        for i, j in combinations(range(number), 2)
    ]
    return AttributeAgreement(
        parts=parts,
        repeats=repeats,
        categories=categories.tolist(),
        appraisers=own,
        between=_rate(same) if number > 1 else None,
        between_kappa=fleiss_interval(flat) if number > 1 else None,
        pairs=pairs,
        system=None if truth is None else _rate((flat == known[:, None]).all(axis=1)),
        warnings=_warnings(parts, repeats, None if truth is None else passes[known], passes),
    )


def _in_same_words(
    verdicts: NDArray[np.str_], reference: NDArray[np.str_] | None, good: Collection[str]
) -> tuple[NDArray[np.str_], NDArray[np.str_] | None]:
    """Verdicts and reference with one word for each meaning: the first of the study's words for it."""
    given, known = set(verdicts.ravel().tolist()), set() if reference is None else set(reference.tolist())
    same = {word: first for words in (good, STOPPED) for word, first in _synonyms(given | known, words).items()}
    stops, true_stops = ({same.get(word, word) for word in words - set(good)} for words in (given, known))
    understood = {*good, *STOPPED, UNDECIDED}
    unclear, different = sorted((given | known) - understood), not stops & true_stops
    if true_stops and unclear and (different or (given <= understood) != (known <= understood)):
        raise DataError(
            f"verdicts ({', '.join(sorted(given))}) and references ({', '.join(sorted(known))}) are in different "
            f"words, and whether '{unclear[0]}' passes a part is not known; write both in the same words, or name all "
            "that pass with --good"
        )
    if true_stops and different:  # compared as pass or stop
        same |= dict.fromkeys([*(given | known) - set(good)], min([*stops, *true_stops]))
    return _replaced(verdicts, same), None if reference is None else _replaced(reference, same)


def _synonyms(words: Collection[str], meaning: Collection[str]) -> dict[str, str]:
    found = sorted(word for word in words if word in meaning)
    return dict.fromkeys(found, found[0]) if found else {}


def _replaced(words: NDArray[np.str_], same: dict[str, str]) -> NDArray[np.str_]:
    return np.array([same.get(word, word) for word in words.ravel().tolist()]).reshape(words.shape)


def _analyse_appraiser(
    name: str, ratings: NDArray[np.int64], known: NDArray[np.int64] | None, passes: Flags
) -> AppraiserAgreement:
    """Ratings (P, R) of one appraiser, reference categories (P,), and which categories pass a part."""
    repeats = ratings.shape[1]
    within = _rate((ratings == ratings[:, :1]).all(axis=1)) if repeats > 1 else None
    within_kappa = fleiss_interval(ratings) if repeats > 1 else None
    if known is None:
        return AppraiserAgreement(name, within, within_kappa, None, None, None, None, None)
    passed, good = passes[ratings], passes[known]
    effectiveness = _rate((ratings == known[:, None]).all(axis=1))
    miss, alarm = decision_rate(passed[~good]), decision_rate(~passed[good])
    return AppraiserAgreement(
        name=name,
        within=within,
        within_kappa=within_kappa,
        effectiveness=effectiveness,
        reference_kappa=cohen_interval(ratings, np.repeat(known[:, None], repeats, axis=1)),
        miss_rate=miss,
        false_alarm_rate=alarm,
        grade=None if miss is None or alarm is None else grade_appraiser(effectiveness.value, miss.value, alarm.value),
    )


def grade_appraiser(effectiveness: float, miss_rate: float, false_alarm_rate: float) -> Grade:
    """The worst of AIAG's guide values (MSA, 4th edition, effectiveness criteria table) for the three."""
    if effectiveness >= 0.9 and miss_rate <= 0.02 and false_alarm_rate <= 0.05:
        return "acceptable"
    if effectiveness >= 0.8 and miss_rate <= 0.05 and false_alarm_rate <= 0.1:
        return "marginal"
    return "unacceptable"


def decision_rate(wrong: Flags) -> RateEstimate | None:
    """Share of wrong decisions (P, R) on P parts, None without one.

    Decisions on one part are not independent. The interval therefore is that of P parts instead of P x R decisions, at
    the nearest whole number of wrong parts outwards: never too narrow.
    """
    if not wrong.size:
        return None
    parts, value = len(wrong), float(wrong.mean())
    low = clopper_pearson(int(np.floor(value * parts + 1e-9)), parts)[0]
    high = clopper_pearson(int(np.ceil(value * parts - 1e-9)), parts)[1]
    return RateEstimate(value, low, high, wrong.size)


def _rate(flags: Flags) -> RateEstimate:
    return estimate_rate(int(flags.sum()), len(flags))


def _warnings(parts: int, repeats: int, good: Flags | None, passes: Flags) -> list[str]:
    found = []
    if parts < MIN_PARTS:
        found.append(f"{parts} parts are few: AIAG's example has {MIN_PARTS}, and the intervals show what so few prove")
    if repeats < 2:
        found.append("without repeats nothing is known of the agreement within an appraiser")
    if good is None:
        found.append("without a reference nothing is known of misses and false alarms")
    elif good.all() or not good.any():
        found.append("all parts have the same reference: a study needs good, defective and borderline parts")
    if not passes.any():
        found.append("no verdict of the study is one that passes a part; name it with --good")
    return found
