"""An inspection in other forms, read back by other means."""

import json
import math
import subprocess
import sys
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from pycocotools import mask as coco_mask

from blemish.errors import BlemishError, MissingExtraError
from blemish.inspection import convert
from blemish.inspection.measure import measure
from blemish.inspection.regions import region_mask
from blemish.inspection.result import SENTENCES, Inspection, Reason, ReasonKind, Region, Verdict


@pytest.fixture
def inspection():
    rng = np.random.default_rng(0)
    mask = rng.random((6, 9)) < 0.5
    mask[0, 0] = True
    grey = np.zeros((20, 30, 1), np.uint8)
    measured = measure(mask, (2, 3), grey)
    valid = rng.random((20, 30)) < 0.9
    return Inspection(
        verdict=Verdict.REJECT,
        label="crack",
        score=float(np.float32(1 / 3)),
        regions=[
            Region("crack", 0.7, (2, 3, 11, 9), mask, measured),
            Region("pit", math.nan, (0, 0, 30, 20)),
            Region("pit", 0.1, (25, 14, 30, 20), np.ones((6, 5), bool), replace(measured, contrast=math.nan)),
        ],
        size=(20, 30),
        heat_map=rng.random((20, 30)).astype(np.float32),
        valid=valid,
        class_scores={"good": 0.25, "crack": 0.75, "ü": math.nan},
        reasons=[
            Reason(ReasonKind.THRESHOLD, Verdict.REJECT, "crack", 0.7, 0.5),
            Reason(ReasonKind.RULE, Verdict.REJECT, rule="reject if count > 1"),
        ],
        timings_ms={"read": 1.23456},
        source="a,b.png",
    )


def test_an_inspection_comes_back_from_json_as_it_was(inspection):
    text = json.dumps(inspection.to_dict(), allow_nan=False)
    back = Inspection.from_dict(json.loads(text))
    assert back == replace(inspection, heat_map=None)
    assert back.timings_ms == {"read": 1.235}
    assert isinstance(back.verdict, Verdict)
    assert isinstance(back.reasons[0].kind, ReasonKind)


@pytest.mark.filterwarnings("ignore:__array__")  # of pycocotools
@settings(max_examples=50, deadline=None)
@given(st.data())
def test_any_mask_comes_back_and_decodes_by_pycocotools(data):
    height, width = data.draw(st.integers(1, 12)), data.draw(st.integers(1, 12))
    x0, y0 = data.draw(st.integers(0, width - 1)), data.draw(st.integers(0, height - 1))
    x1, y1 = data.draw(st.integers(x0 + 1, width)), data.draw(st.integers(y0 + 1, height))
    mask = data.draw(arrays(bool, (y1 - y0, x1 - x0)))
    one = Inspection(Verdict.REJECT, "pit", 1.0, [Region("pit", 1.0, (x0, y0, x1, y1), mask)], (height, width))
    rle = one.to_dict()["regions"][0]["mask"]
    whole = region_mask([one.regions[0]], one.size)
    np.testing.assert_array_equal(coco_mask.decode(rle).astype(bool), whole)
    assert Inspection.from_dict(one.to_dict()) == one
    counts = one.to_coco()[0]["segmentation"]["counts"]
    np.testing.assert_array_equal(
        coco_mask.decode(coco_mask.frPyObjects([{**rle, "counts": counts}], height, width))[..., 0], whole
    )


def test_masks_may_be_left_out(inspection):
    data = inspection.to_dict(masks=False)
    assert data["valid"] is None
    assert [region["mask"] for region in data["regions"]] == [None] * 3
    assert [region.box for region in Inspection.from_dict(data).regions] == [r.box for r in inspection.regions]


def test_what_is_written_follows_the_published_schema(inspection):
    jsonschema = pytest.importorskip("jsonschema")
    schema = convert.json_schema()
    jsonschema.Draft202012Validator.check_schema(schema)
    jsonschema.validate(inspection.to_dict(), schema)
    jsonschema.validate(inspection.to_dict(masks=False), schema)
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate({**inspection.to_dict(), "verdict": "maybe"}, schema)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"schema_version": convert.SCHEMA_VERSION + 1}, "update"),
        ({"verdict": "maybe"}, "verdict"),
        ({"size": [1]}, "size"),
        ({"regions": [{}]}, "regions"),
        ({"valid": {"size": [2, 2], "counts": "1"}}, "run lengths"),
    ],
)
def test_data_of_another_or_a_newer_schema_are_one_line(inspection, change, words):
    with pytest.raises(BlemishError, match=words) as caught:
        Inspection.from_dict({**inspection.to_dict(), **change})
    assert "\n" not in str(caught.value)
    with pytest.raises(BlemishError):
        Inspection.from_dict([])


def test_the_text_of_a_reason_is_never_read_back(inspection, monkeypatch):
    data = inspection.to_dict()
    for kind in SENTENCES:
        monkeypatch.setitem(SENTENCES, kind, "reworded")
    again = inspection.to_dict()
    assert [reason["text"] for reason in again["reasons"]] == ["reworded"] * 2
    assert Inspection.from_dict(data) == Inspection.from_dict(again)


def test_coco_annotations_share_categories(inspection):
    categories = {"pit": 7}
    crack, pit, corner = inspection.to_coco(3, categories)
    assert categories == {"pit": 7, "crack": 8}
    assert [a["category_id"] for a in (crack, pit, corner)] == [8, 7, 7]
    assert (crack["image_id"], crack["bbox"], crack["area"]) == (3, [2, 3, 9, 6], int(inspection.regions[0].mask.sum()))
    assert (pit["area"], "segmentation" in pit) == (600, False)
    assert [a["id"] for a in convert.to_coco(inspection, first_id=5)] == [5, 6, 7]


def test_rows_have_one_line_a_region_and_one_for_an_image_without(inspection):
    rows = convert.to_rows(inspection)
    assert [(row["region"], row["region_label"], row["regions"]) for row in rows] == [
        (1, "crack", 3), (2, "pit", 3), (3, "pit", 3),
    ]  # fmt: skip
    assert rows[0]["area_px"] == inspection.regions[0].mask.sum()
    (blank,) = convert.to_rows(replace(inspection, regions=[]))
    assert (blank["source"], blank["region"], blank["area_px"]) == ("a,b.png", None, None)
    assert list(blank) == list(rows[0]) == [*convert.IMAGE_COLUMNS, *convert.REGION_COLUMNS, *convert.MEASUREMENTS]


def test_pandas_gets_a_row_a_region(inspection):
    pytest.importorskip("pandas")
    frame = convert.to_pandas([inspection, replace(inspection, regions=[])])
    assert len(frame) == 4
    assert frame["area_px"][0] == inspection.regions[0].mask.sum()
    assert list(inspection.to_pandas()["region_label"]) == ["crack", "pit", "pit"]


def test_supervision_gets_boxes_masks_scores_and_names(inspection, monkeypatch):
    fake = SimpleNamespace(Detections=lambda **values: SimpleNamespace(**values))
    monkeypatch.setitem(sys.modules, "supervision", fake)
    detections = inspection.to_supervision(["good", "pit", "crack"])
    assert detections.class_id.tolist() == [2, 1, 1]
    assert detections.data["class_name"].tolist() == ["crack", "pit", "pit"]
    assert detections.xyxy.tolist() == [list(region.box) for region in inspection.regions]
    assert detections.mask.shape == (3, 20, 30)
    assert detections.mask[1].all()
    assert inspection.to_supervision().class_id.tolist() == [0, 1, 1]


def test_the_real_supervision_takes_them(inspection):
    pytest.importorskip("supervision")
    detections = inspection.to_supervision()
    assert len(detections) == 3
    assert len(replace(inspection, regions=[]).to_supervision()) == 0


def test_libraries_are_imported_only_when_called_and_named_when_missing(inspection, monkeypatch):
    program = (
        "import sys, blemish.inspection.convert; assert not {'pandas', 'supervision', 'matplotlib'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", program], check=True)
    for name, call in (("pandas", inspection.to_pandas), ("supervision", inspection.to_supervision)):
        monkeypatch.setitem(sys.modules, name, None)
        with pytest.raises(MissingExtraError, match=f"pip install 'blemish.{name}.'"):
            call()


def test_a_picture_is_drawn_saved_and_plotted(inspection, tmp_path):
    image = np.zeros((20, 30), np.uint8)
    picture = inspection.draw(image)
    assert picture.dtype == np.uint8
    assert picture.shape[2] == 3
    from blemish.imaging.read import read_image

    np.testing.assert_array_equal(read_image(inspection.save(tmp_path / "new" / "p.png", image)), picture)
    with pytest.raises(BlemishError, match="give the image"):
        replace(inspection, source=None).draw()
    pytest.importorskip("matplotlib").use("agg")
    assert "reject" in inspection.plot(image).get_title()
