"""Text in pictures: every character of the languages is drawn, in pictures and in plots."""

import warnings

import numpy as np
import pytest
from babel.messages.pofile import read_po

from blemish import translation
from blemish.inspection.result import Inspection, Region, Verdict
from blemish.report import text
from blemish.report.overlay import describe_region, draw_overlay
from blemish.report.text import cjk_font, draw_text, missing_glyphs, text_size, use_fonts
from blemish.translation import translator

NAMES = ("划痕", "凹坑", "裂纹", "边缘毛刺", "氧化皮压入", "针孔", "焊缝气孔", "漏涂", "異物", "キズ")
needs_cjk = pytest.mark.skipif(cjk_font() is None, reason="no font with Chinese characters is installed")


@pytest.fixture
def without_fonts(monkeypatch):
    text._warn_once.cache_clear()
    monkeypatch.setattr(text, "cjk_font", lambda: None)
    yield
    text._warn_once.cache_clear()


@needs_cjk
def test_no_glyph_is_missing_in_chinese_texts_and_class_names():
    with (translation.LOCALE / "zh" / "LC_MESSAGES" / "blemish.po").open("rb") as stream:
        texts = {str(message.string) for message in read_po(stream) if message.id}
    assert len(texts) > 300
    assert {words: missing_glyphs(words) for words in (*texts, *NAMES) if missing_glyphs(words)} == {}


@needs_cjk
def test_different_names_are_drawn_differently():
    bars = []
    for name in NAMES:
        picture = np.zeros((60, 300, 3), np.uint8)
        draw_text(picture, name, 32, (0, 0), (0, 0, 0))
        bars.append(picture.tobytes())
        assert (picture > 200).any()
    assert len(set(bars)) == len(NAMES)


@needs_cjk
def test_an_overlay_in_chinese_says_the_verdict_and_the_classes_in_chinese():
    regions = [Region("scratch", 0.9, (50, 60, 150, 160)), Region("焊缝气孔", 0.8, (250, 60, 350, 160))]
    inspection = Inspection(Verdict.REJECT, "scratch", 0.9, regions, (400, 400))
    image = np.zeros((400, 400, 3), np.uint8)
    assert describe_region(regions[0], translator("zh")) == "划痕 0.9"
    assert (draw_overlay(image, inspection, language="zh") != draw_overlay(image, inspection)).any()


@needs_cjk
def test_plots_draw_chinese_names_without_missing_glyphs(tmp_path):
    matplotlib = pytest.importorskip("matplotlib")
    from matplotlib.figure import Figure

    with matplotlib.rc_context(use_fonts({"font.size": 10})), warnings.catch_warnings():
        warnings.simplefilter("error")
        figure = Figure()
        figure.add_subplot().set(title="".join(NAMES), xlabel="阈值 0.5 – 漏检率")
        figure.savefig(tmp_path / "plot.png")


def test_latin_text_needs_no_font_of_the_system(without_fonts, caplog):
    assert missing_glyphs("REJECT 0.87, 12.3 x 4 mm") == set()
    assert text_size("REJECT", 20)[0] < text_size("REJECT 0.87", 20)[0]
    assert not caplog.records


def test_a_missing_font_is_one_warning(without_fonts, caplog):
    picture = np.zeros((40, 200, 3), np.uint8)
    for _ in range(3):
        draw_text(picture, "划痕", 16, (0, 0), (200, 0, 0))
    assert [record.levelname for record in caplog.records] == ["WARNING"]
    assert "fonts-noto-cjk" in caplog.text
    assert missing_glyphs("划痕 1") == {"划", "痕"}


@pytest.mark.parametrize("size", [(1, 1), (3, 400), (30, 40), (400, 400)])
def test_text_stays_inside_the_picture(size):
    picture = np.zeros((*size, 3), np.uint8)
    x0, y0, x1, y1 = draw_text(picture, "a long name 0.12", 20, (size[1], size[0]), (255, 0, 0))
    assert x0 >= 0
    assert y0 >= 0
    assert x1 <= max(size[1], x1 - x0)
    assert y1 <= max(size[0], y1 - y0)
