"""The result of an evaluation as text, plain data, data frame and plot."""

import json
import sys

import numpy as np
import pytest

from blemish.errors import MissingExtraError
from blemish.evaluation.evaluation import Evaluation, MetricSet
from blemish.evaluation.image_metrics import image_metrics
from blemish.evaluation.intervals import auroc_interval
from blemish.evaluation.pixel_metrics import PixelMetrics
from blemish.inspection.result import Verdict

SCORES = np.array([0.1, 0.4, 0.3, 0.9])
DEFECTIVE = np.array([False, False, True, True])
INTERVAL = [f"{end:.4f}" for end in auroc_interval(SCORES[~DEFECTIVE], SCORES[DEFECTIVE])]


@pytest.fixture
def evaluation():
    image = image_metrics(SCORES, DEFECTIVE, [Verdict.PASS, Verdict.REVIEW, Verdict.PASS, Verdict.REJECT])
    metrics = MetricSet(image, PixelMetrics(0.97, 0.8, 0.9, None, 0.7, 4), None, None, None)
    own = {"bolt": MetricSet(image, None, None, None, None), "nut": MetricSet(None, None, None, None, None)}
    return Evaluation(metrics, own, None, {"name": "b"}, {"images": 4}, SCORES, DEFECTIVE)


def test_text_is_a_table_with_a_line_a_metric(evaluation):
    lines = str(evaluation).splitlines()
    assert lines[0].split() == ["metric", "value", "95", "%", "interval", "n", "bolt", "nut"]
    assert lines[1].split() == ["image", "AUROC", "0.7500", INTERVAL[0], "–", INTERVAL[1], "4", "0.7500"]
    assert [line.split()[0] for line in lines if not line.startswith(" ")] == ["image", "pixel"]
    assert len(lines) == 1 + len(evaluation.rows())
    assert not any("IoU" in line for line in lines)  # there is no threshold of the map


def test_plain_data_holds_the_same_metrics(evaluation):
    data = json.loads(json.dumps(evaluation.to_dict()))
    assert data["image"]["auroc"]["value"] == data["products"]["bolt"]["image"]["auroc"]["value"] == 0.75
    assert set(data) == {"image", "pixel", "products", "bundle", "data"}
    assert "iou" not in data["pixel"]


def test_data_frame_has_a_row_a_metric(evaluation):
    pytest.importorskip("pandas")
    frame = evaluation.to_pandas()
    assert list(frame.columns) == ["group", "metric", "value", "low", "high", "n", "bolt", "nut"]
    assert len(frame) == len(evaluation.rows())
    row = frame[(frame.group == "image") & (frame.metric == "escape rate")].iloc[0]
    assert (row.value, row.n, row.bolt) == (0.5, 2, 0.5)
    assert frame.nut.isna().all()


def test_plot_has_the_metrics_and_the_roc(evaluation, tmp_path):
    pytest.importorskip("matplotlib")
    figure = evaluation.plot()
    metrics, roc = figure.axes
    assert metrics.get_yticklabels()[0].get_text() == "image: AUROC"
    assert len(metrics.get_yticks()) == len(evaluation.rows())
    area = np.trapezoid(roc.lines[0].get_ydata(), roc.lines[0].get_xdata())
    assert area == pytest.approx(0.75)
    figure.savefig(tmp_path / "metrics.png")


@pytest.mark.parametrize(("library", "call"), [("pandas", "to_pandas"), ("matplotlib.figure", "plot")])
def test_a_missing_library_is_named(evaluation, monkeypatch, library, call):
    monkeypatch.setitem(sys.modules, library, None)
    with pytest.raises(MissingExtraError, match="pip install"):
        getattr(evaluation, call)()
