"""Labelling of a data set on the pages, in a headless Chromium."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import pytest
from browser import WIDE, Browser
from selenium.webdriver.common.keys import Keys
from selenium.webdriver.remote.webelement import WebElement
from station_helpers import BAD_GREY, SIDE, Server, picture, wait_until

from blemish.dataset.ground_truth import read_defect_mask
from blemish.dataset.read import read_dataset
from blemish.geometry import shape_mask
from blemish.station.labelling.project import LabelProject


@dataclass
class Workplace:
    browser: Browser
    url: str
    images: Path
    project: Path

    def open(self, query: str = "") -> Browser:
        self.browser.open(f"{self.url}/labelling{query}")
        return self.browser

    def labels(self) -> LabelProject:
        return LabelProject(self.project)


@pytest.fixture(scope="module")
def workplace(browser: Browser, bundle_file: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Workplace]:
    folder = tmp_path_factory.mktemp("labelling")
    images = folder / "plates"
    images.mkdir()
    for index in range(6):
        (images / f"{index}.png").write_bytes(picture(defect=index >= 4, seed=index))
    server = Server(folder / "station", "--bundle", str(bundle_file), "--images", str(images))
    server.start()
    yield Workplace(browser, server.url, images, folder / "station" / "labelling" / "plates")
    server.kill()


def canvas_of(page: Browser) -> WebElement:
    canvas = page.until(lambda: (page.all(".mask-editor canvas") or [None, None])[1])
    page.until(lambda: canvas.size["width"] > 100 and canvas.get_attribute("width") == str(SIDE))
    # Drags count from the middle of what is in view of it.
    page.driver.execute_script("arguments[0].scrollIntoView({block: 'center'})", canvas)
    return canvas


def test_a_folder_is_labelled_by_keys_boxes_and_proposals(workplace: Workplace) -> None:
    page = workplace.open()
    page.shoot("labelling-projects")
    page.click("[data-name=open]")
    page.arrived("project=plates")
    page.one("[data-name=images] .thumb", "5.png")
    page.one(".alarm", "read as images without annotations")
    page.shoot("labelling")
    page.click("[data-name=label-these]")
    for index in range(4):
        page.one(".panel-title", f"{index}.png")
        page.press("g", Keys.ENTER)
    page.one(".panel-title", "4.png")
    page.one("[data-name=proposed]", "Regions of the active recipe: 1")
    page.press("a", Keys.ENTER)
    page.one(".panel-title", "5.png")
    page.fill("other-class", "dent" + Keys.ENTER)
    page.one("[data-name=classes] .bg-primary", "dent")
    page.press("x")
    page.one("[data-name=tools] .bg-primary", "Box")
    page.drag(canvas_of(page), (0.2, 0.2), (0.75, 0.6))
    page.until(lambda: page.painted_pixels() > 100)
    page.shoot("labelling-editor")
    page.fill("group", "G7" + Keys.ENTER)
    page.one("[data-name=images] .thumb", "0.png")
    found = workplace.labels()
    assert [found.sample(f"{n}.png").label for n in range(6)] == ["good"] * 4 + ["defect", "dent"]
    truth = np.zeros((SIDE, SIDE), bool)
    truth[20:30, 20:40] = True
    for name in ("4.png", "5.png"):
        assert (read_defect_mask(found.sample(name), (SIDE, SIDE)) == truth).all()
    assert found.sample("5.png").group == "G7"
    page.check(workplace.url)


def test_a_drawn_defect_gets_another_class_and_a_good_image_has_no_pixels(workplace: Workplace) -> None:
    page = workplace.open("?project=plates")
    page.click("[data-name=images] .thumb button", "")
    page.one(".panel-title", "0.png")
    canvas = canvas_of(page)
    page.drag(canvas, (0.2, 0.8), (0.4, 0.8))
    page.press(Keys.ENTER)
    page.one(".q-notification", "A good image has no defect pixels")
    page.press("1")  # dent or defect: what was painted without a class gets it
    page.drag(canvas, (0.7, 0.2), (0.9, 0.2))
    page.press("2", "f")
    page.one("[data-name=tools] .bg-primary", "Set class")
    page.drag(canvas, (0.8, 0.2))
    page.press(Keys.ENTER)
    page.one(".panel-title", "1.png")
    sample = workplace.labels().sample("0.png")
    assert sample.labels == workplace.labels().classes()[1:3]
    by_class = {shape.label: shape for shape in sample.shapes or ()}
    assert len(by_class) == 2
    page.press(Keys.ESCAPE)
    page.one("[data-name=images] .thumb", "0.png")
    page.check(workplace.url)


def test_images_are_dropped_selected_and_written_as_a_data_set(workplace: Workplace, tmp_path: Path) -> None:
    page = workplace.open("?project=plates")
    image = np.full((SIDE, SIDE), 60, np.uint8)
    image[5:9, 5:9] = BAD_GREY
    cv2.imwrite(str(tmp_path / "more plates.png"), image)
    (tmp_path / "text.png").write_bytes(b"no image")
    field = page.until(lambda: next(iter(page.all("[data-name=drop] input")), None))
    field.send_keys(str(tmp_path / "more plates.png"))
    page.one("[data-name=images] .thumb", "more_plates.png")
    page.all("[data-name=drop] input")[0].send_keys(str(tmp_path / "text.png"))
    page.one(".q-notification", "text.png")
    page.click("button", "Select all")
    page.click("[data-name=bulk-group]")
    page.fill("bulk-group", "L1")
    page.click("[data-name=apply]:not([disabled])", "Apply (7)")
    wait_until(lambda: workplace.labels().sample("3.png").group == "L1")
    page.click("[data-name=tab-book]")
    page.fill("book-class", "dent")
    page.fill("book-rule", "deeper than 0.1 mm")
    page.click("[data-name=save-class]")
    page.one("[data-name=book-entry]", "deeper than 0.1 mm")
    page.shoot("labelling-book")
    page.click("[data-name=tab-export]")
    page.one("[data-name=tab-export]")
    page.shoot("labelling-export")
    page.click("[data-name=write]")
    written = Path(page.one("[data-name=written]").text)
    dataset = read_dataset(written)
    labelled = {sample.image.name: sample for sample in dataset.samples}
    assert {name: sample.group for name, sample in labelled.items()} == {f"{n}.png": "L1" for n in range(6)}
    assert labelled["1.png"].label == "good"
    assert read_defect_mask(labelled["4.png"], (SIDE, SIDE)).sum() == 200
    page.check(workplace.url)


def test_the_agreement_of_two_people_is_shown(workplace: Workplace) -> None:
    page = workplace.open("?project=plates")
    person = page.one("[data-name=person]")
    person = person if person.tag_name == "input" else person.find_element("css selector", "input")
    person.send_keys(Keys.CONTROL + "a")
    person.send_keys("otto")
    page.click("[data-name=independent]")
    page.one("[data-name=images] .thumb", "unknown")  # what others said is hidden
    page.click("[data-name=label-these]")
    for index in range(2):
        page.one(".panel-title", f"{index}.png")
        page.press("g", Keys.ENTER)
    page.one(".panel-title", "2.png")
    page.press(Keys.ESCAPE)
    page.click("[data-name=tab-agreement]")
    page.click("[data-name=compare-people]")
    assert "1 / 2" in page.one("[data-name=agreement]").text
    page.one(".table", "0.png")
    page.shoot("labelling-agreement")
    page.check(workplace.url)


CANVAS = """
const canvas = document.querySelector('.mask-editor canvas');
return Array.from(canvas.getContext('2d').getImageData(0, 0, canvas.width, canvas.height).data)"""


def shown_masks(page: Browser) -> list[bytes]:
    """The pixels of each colour on the canvas."""
    pixels = np.array(page.driver.execute_script(CANVAS), np.uint32).reshape(SIDE * SIDE, 4) @ [1, 256, 65536, 1 << 24]
    return sorted((pixels == colour).tobytes() for colour in np.unique(pixels) if colour)


def saved_masks(project: Path, image: str) -> dict[str, np.ndarray]:
    masks: dict[str, np.ndarray] = {}
    for shape in LabelProject(project).sample(image).shapes or ():
        masks[shape.label] = masks.get(shape.label, False) | shape_mask(shape, (SIDE, SIDE))
    return masks


def test_what_is_shown_after_undo_is_what_is_saved(
    browser: Browser, serve: Callable[..., Server], tmp_path: Path
) -> None:
    images, page = tmp_path / "bars", browser
    images.mkdir()
    for index in range(3):
        (images / f"{index}.png").write_bytes(picture(defect=True, seed=index))
    server = serve("station", "--images", str(images))
    project = server.folder / "labelling" / "bars"
    page.open(f"{server.url}/labelling")
    page.click("[data-name=open]")
    page.arrived("project=bars")
    page.click("[data-name=label-these]")

    def choose(key: str, name: str) -> None:
        page.press(key)
        page.one("[data-name=classes] .bg-primary", name)

    def saved_next(title: str) -> tuple[list[bytes], dict[str, np.ndarray]]:
        shown, image = shown_masks(page), page.one(".panel-title").text.split()[0]
        page.press(Keys.ENTER)
        page.one(".panel-title" if title != "all" else "[data-name=images] .thumb", "" if title == "all" else title)
        return shown, saved_masks(project, image)

    page.one("[data-name=proposed]", "Regions of the active recipe")
    canvas_of(page)
    page.press("a")
    page.until(lambda: page.painted_pixels() == 200)
    page.press("z")
    page.until(lambda: not page.painted_pixels())
    assert saved_next("1.png") == ([], {})
    assert LabelProject(project).sample("0.png").label == "defect"

    page.fill("other-class", "dent" + Keys.ENTER)
    page.one("[data-name=classes] .bg-primary", "dent")
    canvas = canvas_of(page)
    page.drag(canvas, (0.2, 0.2), (0.5, 0.2))
    page.drag(canvas, (0.2, 0.5), (0.5, 0.5))
    choose("1", "defect")
    page.press("z")  # the second dent goes; the first one was painted as a dent, and stays one
    page.drag(canvas, (0.2, 0.8), (0.5, 0.8))
    shown, saved = saved_next("2.png")
    assert sorted(mask.tobytes() for mask in saved.values()) == shown
    rows = (12, 32, 51)
    assert [[bool(saved[name][row, 20]) for row in rows] for name in ("dent", "defect")] == [
        [True, False, False], [False, False, True],
    ]  # fmt: skip

    canvas = canvas_of(page)
    choose("1", "dent")
    page.press("p")
    for at in ((0.75, 0.3), (0.95, 0.3)):
        page.drag(canvas, at)
    page.press(Keys.ENTER)
    page.one(".q-notification", "at least 3 points")
    page.drag(canvas, (0.95, 0.6))
    page.press("b")
    page.one("[data-name=tools] .bg-primary", "Brush")
    page.drag(canvas, (0.2, 0.2), (0.5, 0.2))
    choose("2", "defect")
    page.drag(canvas, (0.2, 0.8), (0.5, 0.8))
    before = shown_masks(page)
    page.press("f")
    page.one("[data-name=tools] .bg-primary", "Set class")
    page.drag(canvas, (0.3, 0.2))
    page.until(lambda: len(shown_masks(page)) == 1)
    page.press("z")
    page.until(lambda: shown_masks(page) == before)
    shown, saved = saved_next("all")
    outside = np.ones((SIDE, SIDE), bool)
    outside[:42, 45:] = False  # of the polygon, which nobody closed
    assert sorted((mask & outside).tobytes() for mask in saved.values()) == shown == before
    assert saved["dent"][12, 20]
    assert saved["defect"][22, 57]

    first = page.driver.current_window_handle
    page.click("[data-name=images] .thumb button")
    canvas_of(page)
    page.driver.switch_to.new_window("tab")
    page.resize(*WIDE)
    page.open(f"{server.url}/labelling?project=bars")
    page.click("[data-name=images] .thumb button")
    page.drag(canvas_of(page), (0.2, 0.2), (0.5, 0.2))
    page.until(page.painted_pixels)
    shown, saved = saved_next("1.png")
    page.driver.close()
    page.driver.switch_to.window(first)
    page.press(Keys.ENTER)  # of what was shown before the other one was saved
    page.one(".q-notification", "saved this image since it is open here: defect")
    assert [mask.tobytes() for mask in saved_masks(project, "0.png").values()] == shown != []
    page.press(Keys.ENTER)
    page.one(".panel-title", "1.png")
    assert saved_masks(project, "0.png") == {}
    page.check(server.url)


LEAVES = """
const leaving = new Event('beforeunload', {cancelable: true});
window.dispatchEvent(leaving);
return !leaving.defaultPrevented"""
FOCUSED = "return document.activeElement.dataset.name"


def test_painting_that_is_not_saved_is_lost_only_where_the_person_says_so(
    browser: Browser, serve: Callable[..., Server], tmp_path: Path
) -> None:
    images, page = tmp_path / "bars", browser
    images.mkdir()
    for index in range(3):
        (images / f"{index}.png").write_bytes(picture(seed=index))
    server = serve("station", "--images", str(images))
    page.open(f"{server.url}/labelling")
    page.click("[data-name=open]")
    page.arrived("project=bars")
    page.click("[data-name=label-these]")
    page.one(".panel-title", "0.png")

    def paint() -> int:
        page.drag(canvas_of(page), (0.2, 0.8), (0.4, 0.8))
        return page.until(page.painted_pixels)

    canvas_of(page)
    assert page.driver.execute_script(LEAVES)
    page.press("s")  # nothing is painted, and nothing is asked
    page.one(".panel-title", "1.png")
    painted = paint()
    assert not page.driver.execute_script(LEAVES)
    for key in ("s", "u", Keys.ESCAPE):
        page.press(key)
        page.one(".q-dialog", "What you painted is not saved.")
        page.press("1", "s")  # keys of the page do nothing
        page.until(lambda: page.driver.execute_script(FOCUSED) == "keep-painting")
        page.press(Keys.ENTER)
        page.until(lambda: not page.all(".q-dialog"))
        assert "bg-primary" not in page.one("[data-name=classes] button", "defect").get_attribute("class")
        page.one(".panel-title", "1.png")
        assert page.painted_pixels() == painted
    page.press("s")
    page.click("[data-name=discard]")
    page.one(".panel-title", "2.png")
    paint()
    page.press("1", Keys.ENTER)  # saved: nothing is asked any more
    page.one("[data-name=images] .thumb")
    assert page.driver.execute_script(LEAVES)
    assert list(LabelProject(server.folder / "labelling" / "bars").journal.of_image("1.png")) == []
    page.check(server.url)
