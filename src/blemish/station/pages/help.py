"""A short help for each page."""

from nicegui import ui

from blemish.station.pages.session import PageSession
from blemish.station.pages.widgets import dialog

HELP = {
    "/": (
        "The newest part of this station with its verdict, and the counts of the period. Known parts are not counted.",
        "A grey verdict is not the present one: the connection, a source or the next part is missing; it is named.",
        "Alarms stay until somebody acknowledges them; who and when is in the record.",
    ),
    "/review": (
        "Parts between the thresholds first, then disagreements, then rejects. Choose the true class and save.",
        "The wheel zooms, the right button moves the picture. Points of a polygon can be dragged.",
        "A mask is only recorded where somebody painted or erased.",
        "A part that somebody else has open is left out. A disagreement is settled by a second person.",
        "Back shows the part before; saving it again adds a review, and the latest one holds.",
    ),
    "/threshold": (
        "Drag both thresholds over the scores, and read escape and overkill with their exact 95 % intervals.",
        "Saving makes a new version of the recipe; the parts whose verdict would change are listed below.",
    ),
    "/rules": (
        "Zones and areas are drawn on a stored picture of a part; rules name zones, classes and measurements.",
        "A rule in a zone is about all regions that touch it; one to ignore, only about those inside it.",
        "The effect of rules, zones and thresholds on recorded parts is shown below, escapes first.",
        "Another inspected area is checked on the golden set when the recipe is activated.",
    ),
    "/training": (
        "Open a dataset below a folder that the station may read, audit it, and start a training or a comparison.",
        "A finished training is activated only past the golden set.",
    ),
    "/camera": (
        "The picture of a line's camera, as long as no recipe is active: set exposure, focus and position by it.",
        "Saturated pixels have lost their values: lower the exposure. The focus figure compares pictures of one scene.",
        "Kept pictures are a dataset by label, below the first folder given with --images.",
    ),
    "/labelling": (
        "Open a folder, filter its images by evidence and class, and label them one after the other.",
        "A accepts the regions of the active recipe; the tool Box finds the defect in a box, Click the one at a point.",
        "What is painted has the class chosen at the time; the tool Set class gives a drawn defect another one.",
        "For a fair comparison of two people, each hides what the other said.",
    ),
    "/trace": (
        "Pieces of part and lot are enough, in capital or small letters. All conditions must hold.",
        "The list can be saved as CSV; a picture leads to the card of its part, which can be printed.",
    ),
    "/trends": (
        "Control charts of rejects, defects and lengths: a red point is no chance, and a reason to look for the cause.",
        "The moving average of the scores of good parts, positions of defects on the part, and image quality.",
        "A value outside its limits is a reason to look at camera, light and fixture first.",
    ),
    "/studies": (
        "A gauge study asks each appraiser for the same parts several times, in random order, without earlier answers.",
        "People answer pass or reject; else put the part in, and the station's verdict or measurement is taken.",
        "Only the appraiser answers. Parts that a study takes are not counted as production.",
    ),
    "/dead-letters": (
        "Results that a sink refused, or that failed while the ones after them arrived.",
        "They are sent again only when somebody says so; who and when is in the record.",
    ),
    "/card": ("Everything in the record of one part. It can be inspected again by the recipe that decided it.",),
    "/reference": ("Every request that the station answers, with its fields. The same as /openapi.json.",),
}


def show_help(page: PageSession, path: str) -> None:
    """A window with the help of the page at a path."""
    texts = HELP.get(path) or HELP["/" + path.split("/")[1]]
    with dialog(page.t("Help"), width=560) as window:
        for text in texts:
            ui.label(page.t(text)).props("data-name=help-text")
        ui.link(page.t("API reference"), "/reference")
        ui.button(page.t("Close"), on_click=window.close).props("no-caps flat")
