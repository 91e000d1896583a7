"""Bundles that compare an image with a reference image: the graph's second input, prepared in the same way."""

import sys
from contextlib import nullcontext

import numpy as np
import onnx
import pytest
from graphs import anomaly_bundle, make_bundle
from onnx import TensorProto, helper

import blemish.cli
from blemish.dataset.sample import Dataset, Sample
from blemish.errors import DataError, ImageError, OptionError
from blemish.geometry import Box, polygon_mask
from blemish.imaging.pixel_range import make_pixel_spec, measure_values
from blemish.imaging.read import write_image
from blemish.imaging.roi import BlobLocator, Roi
from blemish.imaging.rotated_crop import RotatedCrop
from blemish.inspection.engines import open_engine
from blemish.inspection.inspector import Inspector
from blemish.inspection.manifest import Decision, InputSpec
from blemish.inspection.pipeline import FailedInspection
from blemish.inspection.result import ReasonKind, Verdict

SIZE = (96, 128)
DECISION = Decision(review=0.4, reject=0.5, map_low=0.3, map_high=0.4)


def difference_graph(channels=1):
    """The map is the mean absolute difference of image and reference image."""
    nodes = [
        helper.make_node("Sub", ["images", "template"], ["difference"]),
        helper.make_node("Abs", ["difference"], ["size"]),
        helper.make_node("ReduceMean", ["size"], ["anomaly_map"], axes=[1], keepdims=0),
        helper.make_node("ReduceMax", ["anomaly_map"], ["anomaly_score"], axes=[1, 2], keepdims=0),
    ]
    inputs = [
        helper.make_tensor_value_info(name, TensorProto.FLOAT, ["n", channels, "h", "w"])
        for name in ("images", "template")
    ]
    outputs = [
        helper.make_tensor_value_info("anomaly_score", TensorProto.FLOAT, ["n"]),
        helper.make_tensor_value_info("anomaly_map", TensorProto.FLOAT, ["n", "h", "w"]),
    ]
    graph = helper.make_graph(nodes, "difference", inputs, outputs)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8).SerializeToString()


def bundle(path, **fields):
    graph = difference_graph(fields.get("channels", 1))
    return make_bundle(
        path, graph, ["anomaly_score", "anomaly_map"], DECISION, template=True, **{"side": 128, **fields}
    )


@pytest.fixture
def pair():
    """A busy picture, and the same with a patch of it inverted; the patch's box."""
    template = np.random.default_rng(0).choice(np.uint8([20, 235]), (24, 32)).repeat(4, axis=0).repeat(4, axis=1)
    image = template.copy()
    image[40:56, 60:84] = 255 - image[40:56, 60:84]
    return image, template, (60, 40, 84, 56)


@pytest.mark.parametrize("tile", [None, 48])
@pytest.mark.parametrize("fit", ["stretch", "letterbox"])
@pytest.mark.parametrize("channels", [1, 3])
def test_differences_from_the_reference_image_are_found(tmp_path, pair, tile, fit, channels):
    image, template, box = pair
    inspector = Inspector.open(bundle(tmp_path / "d.blemish", fit=fit, channels=channels), tile=tile)
    result = inspector.inspect(image, template=template)
    assert result.verdict == Verdict.REJECT
    assert len(result.regions) == 1
    np.testing.assert_allclose(result.regions[0].box, box, atol=1)
    assert inspector.inspect(template, template=template).verdict == Verdict.PASS
    assert inspector.inspect(template, template=template).score == 0


def test_both_engines_take_two_inputs(pair):
    pytest.importorskip("openvino")
    image, template, _ = pair
    batch = np.stack([image, template]).astype(np.float32)[None] / 255
    first, second = (open_engine(difference_graph(), name).run(batch) for name in ("onnxruntime", "openvino"))
    expected = np.abs(batch[:, 0] - batch[:, 1])
    np.testing.assert_allclose(first.anomaly_map, expected, atol=1e-6)
    np.testing.assert_allclose(second.anomaly_map, expected, atol=1e-6)


def test_a_reference_image_comes_with_the_sample_or_serves_for_all(tmp_path, pair):
    image, template, _ = pair
    write_image(tmp_path / "i.png", image[..., None])
    write_image(tmp_path / "t.png", template[..., None])
    inspector = Inspector.open(bundle(tmp_path / "d.blemish"))
    samples = [
        Sample(tmp_path / "i.png", template=tmp_path / "t.png"),
        Sample(tmp_path / "t.png", template=tmp_path / "t.png"),
    ]
    expected = [Verdict.REJECT, Verdict.PASS]
    assert [found.verdict for found in inspector.inspect(samples)] == expected
    paths = [tmp_path / "i.png", tmp_path / "t.png"]
    assert [found.verdict for found in inspector.inspect(paths, template=tmp_path / "t.png")] == expected
    # The reference image that is given replaces the sample's own.
    assert inspector.inspect(samples[1], template=image).verdict == Verdict.REJECT


def test_a_reference_image_unlike_the_training_images_is_not_compared_with(tmp_path, pair):
    image, template, _ = pair
    spec = make_pixel_spec([measure_values(template[..., None])])
    graph = difference_graph()
    fields = {"channels": 1, "height": 128, "width": 128, "pixels": spec}
    path = make_bundle(tmp_path / "d.blemish", graph, ["anomaly_score", "anomaly_map"], DECISION, template=True,
                       input=InputSpec(**fields))  # fmt: skip
    inspector = Inspector.open(path)
    assert inspector.inspect(image, template=template).verdict == Verdict.REJECT
    for other, kind, detail in (
        (
            template.astype(np.uint16) * 16,
            ReasonKind.DEPTH,
            "template uint16 ≠ uint8; give one of that type, or train "
            "anew where those of the training were of this type",
        ),
        (np.zeros_like(template), ReasonKind.RANGE, "template σ 0 ≠ 107…107"),
    ):
        result = inspector.inspect(image, template=other)
        assert result.verdict == Verdict.REVIEW
        assert [(reason.kind, reason.detail) for reason in result.reasons] == [(kind, detail)]
    deep = inspector.inspect(image.astype(np.uint16) * 16, template=template)
    assert [reason.detail for reason in deep.reasons] == ["uint16 ≠ uint8"]


def test_a_rotated_crop_is_compared_with_that_of_the_reference_image(tmp_path):
    crop = RotatedCrop((64, 48), 25, 40, 70)
    template = np.zeros(SIZE, np.uint8)
    template[polygon_mask([tuple(p) for p in crop.corners()], *SIZE)] = 90
    image = template.copy()
    defect = polygon_mask([tuple(p) for p in crop.to_image(np.array([[40, 8], [60, 8], [60, 20], [40, 20]]))], *SIZE)
    image[defect] = 240
    roi = Roi(blob=BlobLocator(level=0.2, upright=True))
    path = bundle(tmp_path / "d.blemish", roi=roi, score_source="map")
    result = Inspector.open(path).inspect(image, template=template)
    found = np.zeros(SIZE, bool)
    for region in result.regions:
        x0, y0, x1, y1 = region.box
        found[y0:y1, x0:x1] |= region.mask
    assert (found & defect).sum() / (found | defect).sum() > 0.8


def test_a_missing_or_misaligned_reference_image_is_a_clear_error(tmp_path, pair):
    image, template, _ = pair
    inspector = Inspector.open(bundle(tmp_path / "d.blemish"))
    with pytest.raises(ImageError, match="has no template"):
        inspector.inspect(image)
    with pytest.raises(ImageError, match="same size"):
        inspector.inspect(image, template=template[:50])
    write_image(tmp_path / "i.png", image[..., None])
    found = list(inspector.inspect([tmp_path / "i.png"], on_error="report"))
    assert isinstance(found[0], FailedInspection)
    with pytest.raises(ImageError, match=r"none\.png"):
        inspector.inspect(image, template=tmp_path / "none.png")
    with pytest.raises(OptionError, match="compares with no template"):
        Inspector.open(anomaly_bundle(tmp_path / "g.blemish")).inspect(image, template=template)


def test_on_the_command_line(tmp_path, pair, monkeypatch, capsys):
    image, template, _ = pair
    write_image(tmp_path / "i.png", image[..., None])
    write_image(tmp_path / "t.png", template[..., None])
    path = bundle(tmp_path / "d.blemish")
    monkeypatch.setattr(blemish.cli, "COMMANDS", {"inspect": "Inspect", "decide": "Inspect"})

    def run(*arguments):
        monkeypatch.setattr(sys, "argv", ["blemish", "inspect", str(path), *map(str, arguments)])
        with pytest.raises(SystemExit) as done:
            blemish.cli.main()
        return done.value.code, capsys.readouterr()

    code, _ = run(tmp_path / "i.png", "--template", tmp_path / "t.png")
    assert code == 1
    assert run(tmp_path / "t.png", "--template", tmp_path / "t.png")[0] == 0
    code, said = run(tmp_path / "i.png")
    assert code == 2
    assert "--template FILE" in said.err


@pytest.mark.parametrize("good", [True, False])
def test_siamese_learns_pairs_and_ships_two_inputs(tmp_path, good):
    """From training on pairs, with good images or with boxes only, to a bundle with two inputs."""
    pytest.importorskip("torch")
    from blemish.training.train import train

    rng = np.random.default_rng(0)
    rows = ["image,label,template,split,boxes"]
    for i in range(16):
        template = (rng.random((8, 8)) > 0.5).repeat(8, axis=0).repeat(8, axis=1) * np.uint8(160) + np.uint8(40)
        noisy = (template + rng.normal(0, 3, template.shape)).clip(0, 255).astype(np.uint8)
        defective = not good or i >= 8
        if defective:
            x, y = rng.integers(8, 40, 2)
            noisy[y : y + 12, x : x + 12] = 255 - noisy[y : y + 12, x : x + 12]
            (tmp_path / f"{i}.txt").write_text(f"{x} {y} {x + 12} {y + 12} 1\n")
        write_image(tmp_path / f"{i}.png", noisy[..., None])
        write_image(tmp_path / f"{i}t.png", template[..., None])
        split = ["train", "train", "val", "test"][i % 4]
        rows.append(f"{i}.png,{'' if defective else 'good'},{i}t.png,{split},{f'{i}.txt' if defective else ''}")
    (tmp_path / "data.csv").write_text("\n".join(rows) + "\n")
    options = {"image_size": 64, "batch_size": 4, "steps": 30, "weights": "random", "backbone": "resnet10t"}
    run = train(
        tmp_path / "data.csv", out=tmp_path / "run", method="siamese", options=options, channels=1,
        progress=False, trainer={"accelerator": "cpu"},
    )  # fmt: skip
    inspector = Inspector.open(run)
    assert inspector.manifest.template
    inputs = onnx.load_from_string(inspector.bundle.graph).graph.input
    assert [entry.name for entry in inputs] == ["images", "template"]
    samples = [Sample(tmp_path / f"{i}.png", template=tmp_path / f"{i}t.png") for i in (11, 15)]
    for sample in samples:
        own = inspector.inspect(Sample(sample.template, template=sample.template))
        assert own.verdict == Verdict.PASS
        assert inspector.inspect(sample).score > 2 * own.score
    assert inspector.manifest.decision.reject is not None
    borrowed = any("is used instead" in line for line in inspector.manifest.calibration.warnings)
    assert borrowed == (not good)


@pytest.mark.parametrize(
    ("bare", "settings", "complete"),
    [
        ("val", {}, False),
        ("test", {}, True),
        ("train", {}, True),  # a defective image, which is not used for training
        ("train", {"calibration": "cross-fitted"}, False),
        ("val", {"options": {"reference": "gallery"}}, True),
    ],
)
def test_an_image_without_a_reference_is_named_before_training(tmp_path, monkeypatch, bare, settings, complete):
    pytest.importorskip("torch")
    from blemish.training import train as training

    rows = ["image,label,template,split"]
    for split in ("train", "val", "test"):
        for label in ("good", "pit"):
            pixels = np.random.default_rng(len(rows)).integers(0, 256, (64, 64, 1), np.uint8)  # no two are the same
            write_image(tmp_path / f"{split}-{label}.png", pixels)
            template = "" if (split, label) == (bare, "pit") else "train-good.png"
            rows.append(f"{split}-{label}.png,{label},{template},{split}")
    (tmp_path / "data.csv").write_text("\n".join(rows) + "\n")
    monkeypatch.setattr(training, "_fit_and_ship", lambda run, *_: run)
    said = nullcontext() if complete else pytest.raises(DataError, match=f"{bare}-pit.* has no template.*=gallery")
    with said:
        training.train(tmp_path / "data.csv", out=tmp_path / "run", method="siamese", **settings)
    assert (tmp_path / "run").exists() == complete


def test_known_defects_are_boxes_and_masks_filled(tmp_path):
    pytest.importorskip("torch")
    from blemish.training.learn.data import defect_mask

    write_image(tmp_path / "m.png", np.pad(np.full((4, 4, 1), 255, np.uint8), ((2, 14), (3, 13), (0, 0))))
    boxes = Dataset((Sample(tmp_path / "i.png", boxes=(Box(2, 3, 6.5, 8, "pit"),)),), tmp_path, "csv").samples[0]
    expected = np.zeros((20, 20), bool)
    expected[3:8, 2:7] = True
    np.testing.assert_array_equal(defect_mask(boxes, (20, 20)), expected)
    masked = Sample(tmp_path / "i.png", "pit", mask=tmp_path / "m.png")
    assert defect_mask(masked, (20, 20)).sum() == 16
