"""Data and training: browse a dataset, train in the background, and promote the bundle of a training."""

from fastapi import Request

from blemish.station.pages.dataset_view import DatasetView
from blemish.station.pages.job_list import JobList
from blemish.station.pages.recipe_list import RecipeList
from blemish.station.pages.session import PageSession
from blemish.station.pages.training_form import TrainingForm
from blemish.station.pages.widgets import two_columns


async def build(page: PageSession, request: Request) -> None:
    path = request.query_params.get("path", "")[:4096]
    recipes = RecipeList(page)
    jobs = JobList(page, recipes.content.refresh)
    form = TrainingForm(page, jobs.update)
    dataset = DatasetView(page, form.offer)
    with two_columns() as (left, right):
        with left:
            await dataset.build(path)
        with right:
            await form.build()
            jobs.build()
            await recipes.build()
    if path:
        await dataset.open(path)
