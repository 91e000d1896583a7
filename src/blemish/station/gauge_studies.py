"""Gauge studies on the station: parts are asked for in a random order, and each result is written once.

In a study of people they judge each part by "pass" or "reject", at hand or by its recorded picture. In all others they
put the part in, and the station's own verdict or measurement is taken. Parts that a study has taken are no production.
"""

import csv
import io
import math
import random
from collections.abc import Sequence
from dataclasses import asdict, dataclass

import numpy as np
from sqlalchemy import func, select
from sqlalchemy.orm import Session

from blemish.dataset.sample import GOOD
from blemish.errors import DataError, unknown
from blemish.qualify.study import GaugeStudy
from blemish.station.models import GaugeStudyRow, GaugeTrialRow, InspectionRow, ReviewRow, now
from blemish.station.repository import is_production, latest_label, log_change

KINDS = {  # of a trial's result; all but the first come from the station
    "people": "People judge each part",
    "verdict": "The station's verdict",
    "length_mm": "Measured length, mm",
    "mean_width_mm": "Measured mean width, mm",
    "area_mm2": "Measured area, mm²",
    "length_px": "Measured length, px",
    "area_px": "Measured area, px²",
}
VERDICTS = ("pass", "reject")  # of people
MAX_TRIALS = 5000


@dataclass(frozen=True, slots=True)
class StudyPart:
    """A part of a study; `reference` is "pass", "reject" or its known value, and `inspection_id` its picture's."""

    name: str
    reference: str | None = None
    inspection_id: int | None = None


def create_study(
    session: Session,
    name: str,
    kind: str,
    parts: Sequence[StudyPart],
    appraisers: Sequence[str],
    repeats: int,
    user: str,
    rng: random.Random | None = None,
) -> GaugeStudyRow:
    """A study with the random order of its trials; raises DataError for one that could not be analysed."""
    _check(session, name, kind, parts, appraisers, repeats)
    study = GaugeStudyRow(
        name=name, kind=kind, parts=[asdict(part) for part in parts], appraisers=[*appraisers], repeats=repeats,
        created_by=user,
    )  # fmt: skip
    session.add(study)
    session.flush()
    rng = rng or random.SystemRandom()
    for appraiser in appraisers:
        order = shuffle_trials([part.name for part in parts], repeats, rng)
        session.add_all(
            GaugeTrialRow(study_id=study.id, appraiser=appraiser, position=position, part=part, repeat=repeat)
            for position, (part, repeat) in enumerate(order, 1)
        )
    after = {"kind": kind, "parts": len(parts), "appraisers": [*appraisers], "repeats": repeats}
    log_change(session, user, "gauge study", name, after=after)
    return study


def shuffle_trials(parts: Sequence[str], repeats: int, rng: random.Random) -> list[tuple[str, int]]:
    """Part and repeat in rounds of all parts, each in a random order; no part comes twice in a row."""
    order: list[tuple[str, int]] = []
    for repeat in range(1, repeats + 1):
        round_ = rng.sample(list(parts), len(parts))
        if order and len(parts) > 1 and round_[0] == order[-1][0]:
            other = rng.randrange(1, len(parts))
            round_[0], round_[other] = round_[other], round_[0]
        order += [(part, repeat) for part in round_]
    return order


def _check(
    session: Session, name: str, kind: str, parts: Sequence[StudyPart], appraisers: Sequence[str], repeats: int
) -> None:
    if kind not in KINDS:
        raise DataError(unknown("kind of study", kind, KINDS))
    if not name or session.scalar(select(GaugeStudyRow.id).where(GaugeStudyRow.name == name)) is not None:
        raise DataError(f"study '{name}' exists already, or has no name")
    for what, names in (("part", [part.name for part in parts]), ("appraiser", [*appraisers])):
        if not names or "" in names or len(set(names)) < len(names):
            raise DataError(f"give at least one {what}, each with a name of its own")
    known = [part.reference for part in parts if part.reference is not None]
    if known and len(known) < len(parts):
        raise DataError("some parts have a reference and others have none; give all or none")
    if len(parts) == 1 and not (is_measured(kind) and known):
        raise DataError("a study has two parts or more, or measures one part of known value")
    for reference in known:
        if reference not in VERDICTS and not is_measured(kind):
            raise DataError(f"reference '{reference}' is neither pass nor reject")
        if is_measured(kind) and not _is_number(reference):
            raise DataError(f"reference '{reference}' is no number")
    trials = len(parts) * len(appraisers) * repeats
    if repeats < 1 or not 2 <= trials <= MAX_TRIALS:
        raise DataError(f"parts × appraisers × repeats are {trials}; a study has 2 to {MAX_TRIALS} trials")


def is_measured(kind: str) -> bool:
    return kind not in ("people", "verdict")


def _is_number(text: str) -> bool:
    try:
        return math.isfinite(float(text))
    except ValueError:
        return False


def choose_recorded(session: Session, number: int, rng: random.Random | None = None) -> list[StudyPart]:
    """Reviewed parts with a stored picture, at random: half good, half defective; more of one where the other is short.

    Their reference is the label of the latest review.
    """
    rng = rng or random.SystemRandom()
    reviewed = select(ReviewRow.inspection_id)
    query = select(InspectionRow.id, latest_label()).where(
        InspectionRow.image_path.is_not(None), InspectionRow.id.in_(reviewed)
    )
    ids: dict[bool, list[int]] = {True: [], False: []}
    for key, label in session.execute(query):
        ids[label == GOOD].append(key)
    chosen: list[StudyPart] = []
    for good in (True, False):
        wanted = max(number // 2 if good else number - number // 2, number - len(ids[not good]))
        for key in rng.sample(ids[good], min(wanted, len(ids[good]))):
            chosen.append(StudyPart(str(key), "pass" if good else "reject", key))
    return chosen


def list_studies(session: Session) -> list[tuple[GaugeStudyRow, int, int]]:
    """Every study with the number of its trials and of those that are done, the newest first."""
    trial = GaugeTrialRow
    counts = select(trial.study_id, func.count(), func.count(trial.result)).group_by(trial.study_id)
    numbers = {key: (all_, done) for key, all_, done in session.execute(counts)}
    rows = session.scalars(select(GaugeStudyRow).order_by(GaugeStudyRow.id.desc()))
    return [(row, *numbers[row.id]) for row in rows]


def next_trial(session: Session, study_id: int, appraiser: str) -> tuple[GaugeTrialRow | None, int]:
    """The trial that the appraiser is asked for, and how many are left."""
    trial = GaugeTrialRow
    mine = (trial.study_id == study_id, trial.appraiser == appraiser, trial.result.is_(None))
    left = session.scalar(select(func.count()).select_from(trial).where(*mine)) or 0
    return session.scalar(select(trial).where(*mine).order_by(trial.position).limit(1)), left


def answer_trial(session: Session, trial_id: int, result: str, user: str, inspection_id: int | None = None) -> None:
    """Write the result of a trial, once; raises DataError where it has one, or the inspection was taken already."""
    query = select(GaugeTrialRow).where(GaugeTrialRow.id == trial_id).with_for_update()
    trial = session.scalars(query).one()
    if trial.result is not None:
        raise DataError("this trial has a result already")
    taken = select(GaugeTrialRow.id).where(GaugeTrialRow.inspection_id == inspection_id)
    if inspection_id is not None and session.scalar(taken.limit(1)) is not None:
        raise DataError(f"inspection {inspection_id} is the result of another trial already")
    trial.result, trial.inspection_id = result, inspection_id
    trial.answered_at, trial.answered_by = now(), user


def newest_id(session: Session, station: str) -> int:
    """Of the station's parts; the result of a trial is a later one."""
    return session.scalar(select(func.max(InspectionRow.id)).where(InspectionRow.station == station)) or 0


def first_after(session: Session, station: str, inspection_id: int) -> InspectionRow | None:
    """The first part of the station's line after an inspection."""
    row = InspectionRow
    query = select(row).where(row.station == station, row.id > inspection_id, is_production()).order_by(row.id)
    return session.scalars(query.limit(1)).first()


def station_result(kind: str, row: InspectionRow) -> str:
    """What the station gave for a part: its verdict, or the measurement of its largest region, with all digits.

    Raises DataError where there is no valid result, or nothing was measured.
    """
    if row.error is not None:
        raise DataError(f"inspection {row.id} has no valid result: {row.error}")
    if kind == "verdict":
        return row.verdict
    region = max(row.regions, key=lambda own: own.area_px or 0.0, default=None)
    value = (region.measurements or {}).get(kind) if region is not None else None
    if value is None:
        raise DataError(f"inspection {row.id} has no measured {kind}: no defect was found, or the recipe has no scale")
    return repr(float(value))


def read_trials(session: Session, study_id: int) -> list[GaugeTrialRow]:
    query = select(GaugeTrialRow).where(GaugeTrialRow.study_id == study_id)
    return list(session.scalars(query.order_by(GaugeTrialRow.appraiser, GaugeTrialRow.position)))


def study_csv(study: GaugeStudyRow, trials: Sequence[GaugeTrialRow]) -> str:
    """The results so far, as `blemish qualify gauge` reads them."""
    references = {part["name"]: part["reference"] for part in study.parts}
    stream = io.StringIO()
    writer = csv.writer(stream, lineterminator="\n")
    known = any(value is not None for value in references.values())
    result = "value" if is_measured(study.kind) else "verdict"
    writer.writerow(["part", "appraiser", "repeat", result, *(["reference"] if known else [])])
    for trial in trials:
        if trial.result is not None:
            reference = [references[trial.part]] if known else []
            writer.writerow([trial.part, trial.appraiser, trial.repeat, trial.result, *reference])
    return stream.getvalue()


def to_gauge_study(study: GaugeStudyRow, trials: Sequence[GaugeTrialRow]) -> GaugeStudy:
    """The results for `analyse_study`; raises DataError while trials are left."""
    left = sum(trial.result is None for trial in trials)
    if left:
        raise DataError(f"{left} trials are left; the study is analysed when all are done")
    cells = {(trial.part, trial.appraiser, trial.repeat): trial.result for trial in trials}
    names = [part["name"] for part in study.parts]
    repeats = range(1, study.repeats + 1)
    results = np.array([[[cells[part, one, r] for r in repeats] for one in study.appraisers] for part in names])
    references = [part["reference"] for part in study.parts]
    known = None if None in references else np.array(references)
    if is_measured(study.kind):
        results, known = results.astype(np.float64), None if known is None else known.astype(np.float64)
    return GaugeStudy(names, list(study.appraisers), results, known)
