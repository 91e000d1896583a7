"""Pixels of a box or a click: GrabCut against a known shape, and a network in EfficientSAM's interface."""

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from blemish.errors import BundleError, DataError
from blemish.geometry import encode_mask, shape_mask
from blemish.inspection.result import Inspection, Region, Verdict
from blemish.station.labelling.box_segmentation import segment_box
from blemish.station.labelling.class_map import region_map, split_defects
from blemish.station.labelling.journal import DrawnDefect, ImageLabel
from blemish.station.labelling.label_agreement import compare_people, drawn_iou
from blemish.station.labelling.prompt_segmenter import PromptSegmenter


def ellipse(size: tuple[int, int], centre: tuple[float, float], radii: tuple[float, float]) -> np.ndarray:
    y, x = np.mgrid[: size[0], : size[1]]
    return np.asarray(((x - centre[0]) / radii[0]) ** 2 + ((y - centre[1]) / radii[1]) ** 2 <= 1)


@pytest.mark.parametrize("scale", [1, 12])  # the second is made smaller before
def test_a_box_gives_the_pixels_of_the_defect_inside(scale: int) -> None:
    size = 80 * scale, 100 * scale
    truth = ellipse(size, (50 * scale, 40 * scale), (14 * scale, 8 * scale))
    rng = np.random.default_rng(0)
    image = (90 + 8 * rng.standard_normal((*size, 1)) + 70 * truth[..., None]).clip(0, 255).astype(np.uint8)
    found = segment_box(image, (32 * scale, 28 * scale, 69 * scale, 53 * scale))
    assert (found & truth).sum() / (found | truth).sum() > 0.9
    assert (segment_box(image, (32 * scale, 28 * scale, 69 * scale, 53 * scale)) == found).all()


def test_a_box_without_anything_or_without_surroundings_is_refused() -> None:
    flat = np.full((40, 40, 3), 90, np.uint8)
    with pytest.raises(DataError, match="at least 3 pixels"):
        segment_box(flat, (10, 10, 12, 30))
    with pytest.raises(DataError, match="leaves some of the image"):
        segment_box(flat, (0, 0, 40, 40))


def segmenter_file(path: Path) -> Path:
    """A network whose mask is what is brighter than half at both points; the second of two masks has the better IoU."""
    nodes = [
        helper.make_node("ReduceMean", ["batched_images"], ["grey"], axes=[1], keepdims=1),
        helper.make_node("Sub", ["grey", "half"], ["logits"]),
        helper.make_node("Neg", ["logits"], ["dark"]),
        helper.make_node("Concat", ["dark", "logits"], ["both"], axis=1),
        helper.make_node("Unsqueeze", ["both", "one"], ["output_masks"]),
        helper.make_node("ReduceSum", ["batched_point_coords", "axes"], ["sum"], keepdims=1),
        helper.make_node("ReduceSum", ["batched_point_labels", "last"], ["kinds"], keepdims=1),
        helper.make_node("Mul", ["kinds", "zeros"], ["nothing"]),
        helper.make_node("Add", ["nothing", "ious"], ["iou_predictions"]),
    ]
    shapes = {"batched_images": [1, 3, "h", "w"], "batched_point_coords": [1, 1, "p", 2],
              "batched_point_labels": [1, 1, "p"]}  # fmt: skip
    constants = {
        "half": np.float32([0.5]), "one": np.int64([1]), "axes": np.int64([2, 3]), "last": np.int64([2]),
        "zeros": np.zeros((1, 1, 1), np.float32), "ious": np.float32([[[0.2, 0.9]]]),
    }  # fmt: skip
    graph = helper.make_graph(
        nodes, "segmenter",
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name, shape in shapes.items()],
        [helper.make_tensor_value_info("output_masks", TensorProto.FLOAT, [1, 1, 2, "h", "w"]),
         helper.make_tensor_value_info("iou_predictions", TensorProto.FLOAT, [1, 1, 2])],
        [numpy_helper.from_array(value, name) for name, value in constants.items()],
    )  # fmt: skip
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.checker.check_model(model)
    path.write_bytes(model.SerializeToString())
    return path


@pytest.mark.parametrize("side", [60, 1500])
def test_a_segmenter_gives_the_mask_that_it_trusts_most_at_the_size_of_the_image(tmp_path: Path, side: int) -> None:
    segmenter = PromptSegmenter(segmenter_file(tmp_path / "sam.onnx"), threads=1)
    image = np.full((side, 2 * side, 1), 40, np.uint8)
    image[side // 4 : side // 2, side // 3 : side] = 220
    for found in (segmenter.segment_point(image, 0.6 * side, 0.4 * side), segmenter.segment_box(image, (0, 0, 9, 9))):
        assert found.shape == image.shape[:2]
        truth = image[..., 0] > 127
        assert (found & truth).sum() / (found | truth).sum() > 0.98
    with pytest.raises(DataError, match="finds nothing"):
        segmenter.segment_point(np.zeros((20, 20, 3), np.uint8), 3, 3)


def test_a_file_that_is_no_segmenter_is_refused(tmp_path: Path) -> None:
    (tmp_path / "text.onnx").write_text("no network")
    with pytest.raises(BundleError, match="no ONNX network"):
        PromptSegmenter(tmp_path / "text.onnx")
    model = onnx.load(segmenter_file(tmp_path / "sam.onnx"))
    model.graph.output[1].name = "other"
    model.graph.node[-1].output[0] = "other"
    onnx.save(model, tmp_path / "other.onnx")
    with pytest.raises(BundleError, match="lacks iou_predictions"):
        PromptSegmenter(tmp_path / "other.onnx")


def test_defects_of_a_class_map_are_told_apart() -> None:
    classes = ("dent", "pit")
    found = np.zeros((20, 20), np.uint8)
    found[4:6, 2:6] = found[10:14, 10:14] = 1
    found[10:14, 14:18] = 2  # touches the dent
    shapes = split_defects(found, classes)
    assert [shape.label for shape in shapes] == ["dent", "dent", "pit"]
    drawn = sum(shape_mask(shape, (20, 20)) * (classes.index(shape.label) + 1) for shape in shapes)
    assert (drawn == found).all()


def test_regions_of_a_recipe_are_proposed_with_their_classes() -> None:
    region = Region("pit", 0.9, (3, 4, 6, 6), np.array([[True, False, True], [True, True, True]]))
    other = Region("defect", 0.9, (10, 10, 12, 11), np.ones((1, 2), bool))
    found = Inspection(Verdict.REJECT, "pit", 0.9, [region, other], (16, 16))
    pixels = region_map(found, ("dent", "pit", "defect"), "dent")
    assert ((pixels == 2).sum(), (pixels == 1).sum()) == (5, 2)
    assert pixels[4, 4] == 0


def label(person: str, classes: tuple[str, ...], mask: np.ndarray | None = None) -> ImageLabel:
    drawn = None if mask is None else (DrawnDefect.of(encode_mask(mask, classes[0])),)
    return ImageLabel(image="x", person=person, labels=classes, drawn=drawn)


def test_agreement_is_cohens_kappa_and_the_overlap_of_what_both_drew() -> None:
    a, b = np.zeros((10, 10), bool), np.zeros((10, 10), bool)
    a[:4], b[2:6] = True, True
    # 20 images: 8 good by both, 6 dents by both, 4 good and dent, 2 dent and good.
    pairs = [("good", "good")] * 8 + [("dent", "dent")] * 6 + [("good", "dent")] * 4 + [("dent", "good")] * 2
    drawn = {"anna": a, "otto": b}
    labels = {
        f"{n}.png": {
            person: label(person, (name,), drawn[person] if name == "dent" else None)
            for person, name in zip(drawn, pair, strict=True)
        }
        for n, pair in enumerate(pairs)
    }
    labels["alone.png"] = {"anna": label("anna", ("good",))}
    found = compare_people(labels, "anna", "otto")
    chance = (12 * 10 + 8 * 10) / 400
    assert found.kappa.value == pytest.approx((14 / 20 - chance) / (1 - chance))
    assert (found.images, found.agreed, len(found.different)) == (20, 14, 6)
    assert set(found.ious.values()) == {20 / 60}
    assert len(found.ious) == 6
    assert found.mean_iou == pytest.approx(1 / 3)
    assert drawn_iou(label("anna", ("dent",), a), label("otto", ("dent",), np.ones((5, 5), bool))) is None
    assert compare_people({}, "anna", "otto").kappa.value is None
    (drawn,) = label("anna", ("dent",), a).drawn or ()
    assert (shape_mask(drawn.shape(), a.shape) == a).all()
