"""Data and training: look at a dataset, learn from it in the background, and put what was learned to use."""

from fastapi import Request
from nicegui import ui

from blemish.station.pages.dataset_view import DatasetView
from blemish.station.pages.job_list import JobList
from blemish.station.pages.recipe_list import RecipeList
from blemish.station.pages.session import Visitor
from blemish.station.pages.training_form import TrainingForm


async def build(visitor: Visitor, request: Request) -> None:
    path = request.query_params.get("path", "")[:4096]
    recipes = RecipeList(visitor)
    jobs = JobList(visitor, recipes.table.refresh)
    form = TrainingForm(visitor, jobs.look)
    dataset = DatasetView(visitor, form.offer)
    with ui.element("div").classes("grid2"):
        with ui.element("div").classes("stack"):
            await dataset.show(path)
        with ui.element("div").classes("stack"):
            await form.show()
            jobs.show()
            await recipes.show()
    if path:
        await dataset.open(path)
