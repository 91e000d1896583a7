"""Until when recipes are qualified."""

from fastapi import APIRouter

from blemish.station.models import RecipeRow
from blemish.station.qualifications import last_qualification, qualify_recipe
from blemish.station.routes.access import Engineer, IdInPath, Operator, StationDep, error_responses, or_404
from blemish.station.schemas import QualificationIn, QualificationOut

router = APIRouter(tags=["recipes"])


@router.post("/recipes/{recipe_id}/qualification", status_code=201, responses=error_responses(404))
def create_qualification(
    station: StationDep, user: Engineer, recipe_id: IdInPath, given: QualificationIn
) -> QualificationOut:
    """State until when a recipe is qualified, and by what; alarms remind of that day from two weeks before it."""
    with station.database.writing() as session:
        recipe = or_404(session.get(RecipeRow, recipe_id), f"no recipe {recipe_id}")
        row = qualify_recipe(session, recipe, given.until, given.note, user.name)
        return QualificationOut.model_validate(row)


@router.get("/recipes/{recipe_id}/qualification", responses=error_responses(404))
def read_qualification(station: StationDep, user: Operator, recipe_id: IdInPath) -> QualificationOut:
    """The latest statement."""
    with station.database.reading() as session:
        row = or_404(last_qualification(session, recipe_id), f"nobody has qualified recipe {recipe_id}")
        return QualificationOut.model_validate(row)
