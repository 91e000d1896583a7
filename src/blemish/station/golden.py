"""The golden set: parts of known truth that a new recipe must judge right before it is used."""

from pathlib import Path

from sqlalchemy import select
from sqlalchemy.orm import Session

from blemish.dataset.sample import GOOD
from blemish.errors import BlemishError
from blemish.inspection.inspector import Inspector
from blemish.inspection.result import Verdict
from blemish.station.database import Database
from blemish.station.image_store import kept_image
from blemish.station.models import GoldenRow, InspectionRow, RecipeRow
from blemish.station.recipes import Inspectors, activate
from blemish.station.repository import audit
from blemish.station.schemas import Loss


class GoldenLossError(BlemishError):
    """A recipe that loses parts of the golden set, which nobody has accepted and said why."""

    def __init__(self, losses: list[Loss]) -> None:
        named = ", ".join(f"{loss.inspection_id} ({loss.label}: {loss.verdict})" for loss in losses[:10])
        super().__init__(
            f"the recipe loses {len(losses)} parts of the golden set: {named}; "
            "accept the losses and say why to use it all the same"
        )
        self.losses = losses


def set_golden(session: Session, row: InspectionRow, label: str, who: str) -> GoldenRow:
    """Take a part into the golden set, or change its truth there."""
    found = session.get(GoldenRow, row.id)
    before = None if found is None else {"label": found.label}
    audit(session, who, "golden", f"inspection {row.id}", before, {"label": label})
    if found is None:
        found = GoldenRow(inspection_id=row.id, label=label, added_by=who)
        session.add(found)
    found.label = label
    session.flush()
    return found


def drop_golden(session: Session, row: GoldenRow, who: str) -> None:
    audit(session, who, "golden", f"inspection {row.inspection_id}", before={"label": row.label})
    session.delete(row)


def golden_set(session: Session) -> list[GoldenRow]:
    return list(session.scalars(select(GoldenRow).order_by(GoldenRow.inspection_id)).unique())


def losses(inspector: Inspector, rows: list[GoldenRow], images: Path) -> list[Loss]:
    """Defective parts that pass, good ones that are rejected, and parts whose image cannot be inspected any more."""
    found = []
    for row in rows:
        try:
            verdict = inspector.inspect(kept_image(row.inspection, images)).verdict.value
        except BlemishError as error:
            verdict = f"no answer, {error}"
        wrong = Verdict.REJECT if row.label == GOOD else Verdict.PASS
        if verdict == wrong or verdict.startswith("no answer"):
            found.append(Loss(inspection_id=row.inspection_id, label=row.label, verdict=verdict))
    return found


def change_over(
    database: Database,
    inspectors: Inspectors,
    images: Path,
    recipe_id: int,
    who: str,
    why: str,
    accept_losses: bool = False,
) -> list[Loss]:
    """Activate a recipe if it keeps the golden set, or its losses are accepted and `why` says why; else raises
    GoldenLossError."""
    with database.reading() as session:  # takes its time, and nobody shall wait for the lock of the writers
        inspector = inspectors.get(session.get_one(RecipeRow, recipe_id))
        lost = losses(inspector, golden_set(session), images)
    if lost and not (accept_losses and why.strip()):
        raise GoldenLossError(lost)
    if lost:
        why = f"{why} [loses {len(lost)} of the golden set: {', '.join(str(loss.inspection_id) for loss in lost)}]"
    with database.writing() as session:
        activate(session, session.get_one(RecipeRow, recipe_id), who, why)
    return lost
