"""The page of a comparison: choice, ranking, costs, and every text in Chinese."""

from dataclasses import asdict

import pytest
from web_page import read_page

from blemish.evaluation.bootstrap import Difference
from blemish.evaluation.comparison import MethodCost, RankedMethod, choose_method
from blemish.report.comparison_page import options_by_method, render_comparison
from blemish.report.plots import WORSE, plot_differences
from blemish.translation import Message, translator


@pytest.fixture
def summary():
    gap = Difference(-0.01, -0.03, 0.01, 0.3, 20)
    ranking = [RankedMethod("patchcore", 0.95, 0.9, 0.99, None), RankedMethod("padim", 0.94, 0.88, 0.98, gap)]
    costs = {"patchcore": MethodCost(80, 50), "padim": MethodCost(20, 30)}
    choice = choose_method(ranking, costs, "auroc")
    rows = [
        {
            **asdict(own), "title": own.method.title(), "significantly_worse": own.significantly_worse,
            **asdict(costs[own.method]), "images_per_second": 30.0, "training_s": 61.0,
            "metrics": {"image AUROC": own.value, "escape rate": 0.05},
            "options": {"backbone": "resnet18", own.method: 1},
        }
        for own in ranking
    ]  # fmt: skip
    basis = [Message("The choice is based on the {images} validation images. Thresholds, and for some methods the best "
                     "epoch, were chosen on them too, so their metrics may be too good; --folds avoids that.",
                     {"images": 20})]  # fmt: skip
    return {
        "data": {"name": "螺栓", "root": "/data/螺栓", "counts": {"train": {"images": 30, "defective": 0}}},
        "metric": {"key": "auroc", "name": "image AUROC"},
        "basis": {"kind": "validation", "folds": 0, "images": 20, "defective": 8, "words": "",
                  "messages": [asdict(message) for message in basis]},
        "shared_settings": [asdict(Message("inside a region of interest"))],
        "ranking": rows,
        "pareto_fronts": {"latency_ms": ["padim", "patchcore"], "size_mb": ["padim", "patchcore"]},
        "choice": {"method": choice.method, "equals": [], "reason": choice.reason,
                   "reasons": [asdict(message) for message in choice.reasons]},
        "test": [{"method": "padim", "images": 12, "metrics": {"image AUROC": 0.9}}],
        "left_out": [{"method": "unet", "reason": "it needs masks"}],
        "warnings": ["few samples"], "seed": 3, "blemish": "0.1.0", "made": "2026-01-01",
    }  # fmt: skip


def test_page_names_the_choice_with_its_reasons(summary, tmp_path):
    (tmp_path / "page.html").write_text(render_comparison(summary), encoding="utf-8")
    _, words = read_page(tmp_path / "page.html")
    assert "Choice: padim" in words
    assert summary["choice"]["reason"] in words
    assert "The choice is based on the 20 validation images." in words
    for part in ("-0.030 to +0.010", "12 images, which were not used for the choice.", "it needs masks", "61 s"):
        assert part in words


def test_page_in_chinese(summary, tmp_path):
    page = render_comparison(summary, "zh")
    (tmp_path / "page.html").write_text(page, encoding="utf-8")
    _, words = read_page(tmp_path / "page.html")
    assert '<html lang="zh-CN">' in page
    for part in (
        "选择：padim",
        "patchcore 的图像 AUROC最高",
        "padim 更快（每张 20 ms，对比 80 ms）",
        "按图像 AUROC排名",
        "选择依据是 20 张验证图像。",
        "漏检率",
    ):
        assert part in words
    for english in ("Ranking", "Choice", "images", "the best", "interval", "Left out"):
        assert english not in words


def test_options_common_to_the_methods_come_first(summary):
    assert options_by_method(summary["ranking"]) == [
        ("backbone", ["resnet18", "resnet18"]), ("patchcore", [1, None]), ("padim", [None, 1]),
    ]  # fmt: skip


def test_a_method_worse_in_every_draw_is_drawn_grey():
    def colours(worse):
        return plot_differences([("a", 0, 0, 0, False), ("b", -1, -1, -1, worse)], translator("en"))

    assert WORSE in colours(True)
    assert WORSE not in colours(False)
