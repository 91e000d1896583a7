"""The golden set: parts with a certain ground truth that a recipe must decide correctly before it is activated."""

from pathlib import Path

from sqlalchemy import ColumnElement, func, select
from sqlalchemy.orm import Session

from blemish.dataset.sample import GOOD
from blemish.errors import BlemishError
from blemish.station.database import Database
from blemish.station.image_store import stored_image
from blemish.station.models import KNOWN_ORIGIN, GoldenRow, InspectionRow, RecipeRow
from blemish.station.recipe_changes import check_active
from blemish.station.recipe_views import PartInspector
from blemish.station.recipes import Inspectors, activate
from blemish.station.repository import contradicts, log_change, reviewed_label
from blemish.station.schemas import GoldenLoss

MAX_REVIEWED, MAX_CANDIDATES = 2000, 200


class GoldenLossError(BlemishError):
    """A recipe decides parts of the golden set wrongly, and nobody has accepted this with a comment."""

    def __init__(self, losses: list[GoldenLoss]) -> None:
        named = ", ".join(f"{loss.inspection_id} ({loss.label}: {loss.verdict})" for loss in losses[:10])
        super().__init__(
            f"the recipe loses {len(losses)} parts of the golden set: {named}; "
            "to activate it all the same, accept the losses and give a comment"
        )
        self.losses = losses


def add_golden(session: Session, row: InspectionRow, label: str, user: str) -> GoldenRow:
    """Add a part to the golden set, or change its label there."""
    golden = session.get(GoldenRow, row.id)
    before = None if golden is None else {"label": golden.label}
    log_change(session, user, "golden", f"inspection {row.id}", before, {"label": label})
    if golden is None:
        golden = GoldenRow(inspection_id=row.id, created_by=user)
        session.add(golden)
    golden.label = label
    session.flush()
    return golden


def remove_golden(session: Session, row: GoldenRow, user: str) -> None:
    log_change(session, user, "golden", f"inspection {row.inspection_id}", before={"label": row.label})
    session.delete(row)


def list_golden(session: Session) -> list[GoldenRow]:
    return list(session.scalars(select(GoldenRow).order_by(GoldenRow.inspection_id)).unique())


def list_candidates(session: Session) -> list[InspectionRow]:
    """Reviewed parts with a stored image that may join the golden set, defective ones first.

    Known parts come before those of the line, and older ones before newer ones.
    """
    row = InspectionRow
    query = select(row).where(*_candidates()).order_by(row.origin != KNOWN_ORIGIN, row.id).limit(MAX_REVIEWED)
    rows = session.scalars(query).unique().all()
    return sorted(rows, key=lambda part: reviewed_label(part) == GOOD)[:MAX_CANDIDATES]


def count_candidates(session: Session) -> int:
    number = session.scalar(select(func.count()).select_from(InspectionRow).where(*_candidates())) or 0
    return min(number, MAX_CANDIDATES)


def _candidates() -> list[ColumnElement[bool]]:
    row = InspectionRow
    golden = row.id.in_(select(GoldenRow.inspection_id))
    return [row.reviews.any(), row.image_path.is_not(None), ~golden]


def find_losses(inspector: PartInspector, rows: list[GoldenRow], images: Path) -> list[GoldenLoss]:
    """Defective parts that pass, good parts that are rejected, and parts whose image can no longer be inspected."""
    losses = []
    for row in rows:
        try:
            verdict = inspector.inspect(stored_image(row.inspection, images)).verdict.value
            lost = contradicts(row.label, verdict)
        except BlemishError as error:
            verdict, lost = f"no result, {error}", True
        if lost:
            losses.append(GoldenLoss(inspection_id=row.inspection_id, label=row.label, verdict=verdict))
    return losses


def activate_checked(
    database: Database,
    inspectors: Inspectors,
    images: Path,
    recipe_id: int,
    user: str,
    comment: str,
    accept_losses: bool = False,
    instead_of: str | None = None,
) -> list[GoldenLoss]:
    """Activate a recipe that decides the golden set correctly; raises GoldenLossError for another one, unless its
    losses are accepted and a comment is given.

    With `instead_of`, the title of the recipe that a change was based on, raises StaleRecipeError where another one
    became the active one meanwhile.
    """
    with database.reading() as session:  # slow, and nobody should wait for the lock of the writers
        inspector = inspectors.get(session.get_one(RecipeRow, recipe_id))
        losses = find_losses(inspector, list_golden(session), images)
    if losses and not (accept_losses and comment.strip()):
        raise GoldenLossError(losses)
    if losses:
        lost = ", ".join(str(loss.inspection_id) for loss in losses)
        comment = f"{comment} [loses {len(losses)} of the golden set: {lost}]"
    with database.writing() as session:
        if instead_of is not None:
            check_active(session, instead_of)
        activate(session, session.get_one(RecipeRow, recipe_id), user, comment)
    return losses
