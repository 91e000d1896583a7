"""Alarms: conditions of a line that a person must acknowledge; the record keeps who did, and when."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import takewhile

from sqlalchemy import or_, select
from sqlalchemy.orm import Session

from blemish.inspection.result import Verdict
from blemish.qualify.control_charts import compute_ewma
from blemish.station import drift, image_quality
from blemish.station.models import AlarmRow, InspectionRow, RecipeRow, now
from blemish.station.populations import recent_recipes
from blemish.station.repository import is_production, log_change
from blemish.station.settings import Settings
from blemish.translation import Translate

NEWEST = 50  # parts that are searched for repeated images, and that the share of rejects is taken of
MIN_PARTS = 20
SENTENCES = {
    "same_image": "The same picture came again: SHA-256 {subject}",
    "no_part": "No part for more than {value:.0f} s",
    "reject_rate": "{value:.0%} of the newest parts were rejected",
    "reject_run": "Rejects in a row: {value:.0f}",
    "drift": "Recipe {subject}: the scores of good parts have drifted",
    "dark": "Recipe {subject}: dark images, {value:.0%} of the usual brightness",
    "bright": "Recipe {subject}: bright images, {value:.0%} of the usual brightness",
    "blurred": "Recipe {subject}: blurred images, {value:.0%} of the usual sharpness",
    "shifted": "Recipe {subject}: shifted images, by {value:.1%} of the longer side",
    "source": "Source {subject} gives no image",
    "line": "The line {subject} is down",
    "sink": "Sink {subject} does not take results",
    "engine": "The inspection gives no verdicts ({subject})",
    "disk": "The disk is nearly full: {value:.1f} GiB free",
    "qualification_ends": "The qualification of recipe {subject} ends in {value:.0f} days",
    "qualification_ended": "The qualification of recipe {subject} has ended",
    "recipe_fault": "A rule or threshold has a fault; edit the recipe {subject}",
    "shift_report": "The shift report cannot be written: {subject}",
    "check": "This could not be checked: {subject}",
    "clock": "The clock jumped by {value:+.0f} s",
}
_QUALITY = {
    "Dark images": "dark", "Bright images": "bright", "Blurred images": "blurred", "Shifted images": "shifted",
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class AlarmCondition:
    """A condition that holds at present."""

    kind: str  # a key of SENTENCES
    subject: str = ""
    value: float | None = None


def alarm_text(row: AlarmRow, t: Translate) -> str:
    subject = row.subject or "-"  # alarms of images and drift named no recipe in earlier versions
    return t(SENTENCES[row.kind], subject=subject, value=row.value or 0.0)


def part_conditions(session: Session, settings: Settings) -> list[AlarmCondition]:
    """Repeated images and too many rejects among the newest parts of the line, and rejects in a row of any length."""
    row, longest = InspectionRow, settings.max_reject_run
    query = select(row.verdict, row.image_sha256).where(row.station == settings.station, is_production())
    parts = session.execute(query.order_by(row.id.desc()).limit(max(NEWEST, longest or 0))).all()
    newest = parts[:NEWEST]
    repeated = [sha256 for sha256, number in Counter(sha256 for _, sha256 in newest).items() if number > 1]
    found = [AlarmCondition("same_image", sha256[:16]) for sha256 in repeated]
    run = sum(1 for _ in takewhile(lambda verdict: verdict == Verdict.REJECT, (verdict for verdict, _ in parts)))
    if longest is not None and run >= longest:
        found.append(AlarmCondition("reject_run", value=run))
    rejects = [verdict == Verdict.REJECT for verdict, _ in newest]
    share = sum(rejects) / max(len(rejects), 1)
    if settings.max_reject_rate is not None and len(rejects) >= MIN_PARTS and share > settings.max_reject_rate:
        found.append(AlarmCondition("reject_rate", value=share))
    return found


def trend_conditions(session: Session, station: str) -> list[AlarmCondition]:
    """Drift of scores and image quality, with each recipe that decided parts lately."""
    recipes = recent_recipes(session, station)
    return [condition for recipe in recipes for condition in _recipe_conditions(session, recipe, station)]


def _recipe_conditions(session: Session, recipe: RecipeRow, station: str) -> list[AlarmCondition]:
    found = [AlarmCondition(_QUALITY[alarm.kind], recipe.name, alarm.value)
             for alarm in image_quality.find_alarms(session, recipe.id, station)]  # fmt: skip
    scores = drift.good_scores(session, recipe, station)[1]
    baseline = min(drift.BASELINE, len(scores) // 2)
    if baseline >= drift.MIN_BASELINE and compute_ewma(scores, baseline).drifted:
        found.append(AlarmCondition("drift", recipe.name))
    return found


def list_open(session: Session, station: str) -> list[AlarmRow]:
    """Alarms that hold, or that nobody has acknowledged, the newest first."""
    row = AlarmRow
    is_open = or_(row.ended_at.is_(None), row.acknowledged_at.is_(None))
    return list(session.scalars(select(row).where(row.station == station, is_open).order_by(row.id.desc())))


def list_alarms(session: Session, station: str, limit: int = 100) -> list[AlarmRow]:
    query = select(AlarmRow).where(AlarmRow.station == station).order_by(AlarmRow.id.desc()).limit(limit)
    return list(session.scalars(query))


def find_changes(session: Session, station: str, conditions: Sequence[AlarmCondition]) -> bool:
    """Whether `update` would change the record."""
    holding = {(c.kind, c.subject) for c in conditions}
    return holding != {(row.kind, row.subject) for row in list_open(session, station) if row.ended_at is None}


def update(session: Session, station: str, conditions: Sequence[AlarmCondition]) -> None:
    """Raise alarms whose condition holds, and end those whose condition is over.

    A condition that returns before anybody has acknowledged its alarm raises no second one.
    """
    rows = {(row.kind, row.subject): row for row in reversed(list_open(session, station))}
    holding = {(c.kind, c.subject): c for c in conditions}
    for key, condition in holding.items():
        if key in rows:
            rows[key].ended_at = None
        else:
            kind, subject = key
            session.add(AlarmRow(station=station, kind=kind, subject=subject, value=condition.value))
    for key, row in rows.items():
        if key not in holding and row.ended_at is None:
            row.ended_at = now()


def acknowledge(session: Session, row: AlarmRow, user: str) -> None:
    """Record who has seen an alarm; the first acknowledgement stays."""
    if row.acknowledged_at is None:
        row.acknowledged_at, row.acknowledged_by = now(), user
        log_change(session, user, "acknowledge", f"alarm {row.id}", after={"kind": row.kind, "subject": row.subject})
