"""A graph of 8-bit convolutions: what is quantised, what it loses, and when it is refused."""

from dataclasses import replace

import cv2
import numpy as np
import onnx
import pytest
import torch
from graphs import make_bundle, model
from onnx import helper

from blemish.dataset.read import read_dataset
from blemish.errors import ExportError, OptionError
from blemish.imaging.read import write_image
from blemish.inspection.bundle import open_bundle, replace_manifest
from blemish.inspection.engines import open_engine
from blemish.inspection.inspector import Inspector
from blemish.inspection.manifest import Compression, Decision, InputSpec, ProductDecision
from blemish.methods.detection.ssd import SSD, SSDOptions
from blemish.training.ship import compress as compressing
from blemish.training.ship.compress import compress, find_loss
from blemish.training.ship.export import export_graph
from blemish.training.ship.quantise import float_convolutions, quantise_graph

pytest.importorskip("nncf")


def conv(name, source, weights):
    return helper.make_node("Conv", [source, weights], [name], name=name, pads=[1, 1, 1, 1])


def chain():
    """Two convolutions that blur, the distance to a mean of 0.4, and a third convolution that blurs the map."""
    blur = np.full((1, 1, 3, 3), 1 / 9, np.float32)
    nodes = [
        conv("first", "images", "blur1"),
        conv("second", "first", "blur2"),
        conv("last_features", "second", "blur3"),
        helper.make_node("Sub", ["last_features", "mean"], ["difference"], name="difference"),
        helper.make_node("Mul", ["difference", "difference"], ["squared"], name="squared"),
        helper.make_node("Sqrt", ["squared"], ["distance"], name="distance"),
        conv("smooth", "distance", "blur4"),
        helper.make_node("Squeeze", ["smooth", "one"], ["anomaly_map"], name="map"),
        helper.make_node("ReduceMax", ["anomaly_map"], ["anomaly_score"], axes=[1, 2], keepdims=0, name="score"),
    ]
    constants = [
        *((f"blur{number}", blur) for number in range(1, 5)),
        ("mean", np.float32(0.4)),
        ("one", np.int64([1])),
    ]
    return model(nodes, {"anomaly_score": ["n"], "anomaly_map": ["n", "h", "w"]}, constants=constants)


@pytest.fixture(scope="module")
def images(tmp_path_factory):
    """Grey noise, and of some images a bright square."""
    folder, rng = tmp_path_factory.mktemp("images"), np.random.default_rng(0)
    for kind, count in (("good", 40), ("defect", 10)):
        for number in range(count):
            image = rng.normal(102, 10, (64, 64))
            if kind == "defect":
                x, y = rng.integers(5, 45, 2)
                image[y : y + 12, x : x + 12] += 90
            image = cv2.GaussianBlur(image.clip(0, 255).astype(np.uint8), (3, 3), 0)
            write_image(folder / kind / f"{number}.png", image[..., None])
    return read_dataset(folder)


@pytest.fixture
def bundle(tmp_path):
    decision = Decision(review=0.25, reject=0.27, map_low=0.2, map_high=0.25, rules=["ignore if area_px < 1"])
    return make_bundle(tmp_path / "a.blemish", chain(), ["anomaly_score", "anomaly_map"], decision)


def test_the_first_the_last_and_what_is_behind_distances_stay_in_float():
    kept = float_convolutions(onnx.load_from_string(chain()))
    assert kept == {"first", "smooth"}
    # Without the convolution behind them, the last one of the features is the last of all, and is not quantised either.
    shorter = onnx.load_from_string(chain())
    del shorter.graph.node[3:]
    assert float_convolutions(shorter) == {"first", "last_features"}
    assert float_convolutions(shorter, last=2) == {"first", "second", "last_features"}


def test_each_way_through_a_graph_has_its_own_first_and_last_convolutions():
    """Two ways from the image, one a convolution deeper, joined; an output behind two more, another behind three."""
    nodes = [
        conv("first", "images", "blur"),
        conv("deeper", "first", "blur"),
        conv("other_first", "images", "blur"),
        helper.make_node("Add", ["deeper", "other_first"], ["joined"], name="join"),
        conv("shared", "joined", "blur"),
        conv("beside", "shared", "blur"),
        conv("next", "shared", "blur"),
        conv("end", "next", "blur"),
        helper.make_node("Squeeze", ["beside", "one"], ["anomaly_map"], name="map"),
        helper.make_node("ReduceMax", ["end"], ["anomaly_score"], axes=[1, 2, 3], keepdims=0, name="score"),
    ]
    constants = [("blur", np.full((1, 1, 3, 3), 1 / 9, np.float32)), ("one", np.int64([1]))]
    graph = onnx.load_from_string(
        model(nodes, {"anomaly_score": ["n"], "anomaly_map": ["n", "h", "w"]}, constants=constants)
    )
    assert float_convolutions(graph) == {"first", "other_first", "beside", "end"}
    assert float_convolutions(graph, last=2) == {"first", "other_first", "beside", "end", "next"}
    assert float_convolutions(graph, last=3) == {"first", "other_first", "beside", "end", "next", "shared"}


def test_only_the_convolutions_become_integers():
    rng = np.random.default_rng(0)
    batches = [rng.random((1, 1, 64, 64), np.float32) for _ in range(4)]
    quantised = onnx.load_from_string(quantise_graph(chain(), batches))
    made_by = {name: node.op_type for node in quantised.graph.node for name in node.output}
    inputs = {node.name: {made_by.get(name) for name in node.input} for node in quantised.graph.node}
    for name in ("second", "last_features"):
        assert "DequantizeLinear" in inputs[name], name
    for name in ("first", "smooth", "difference", "squared", "distance"):
        assert "DequantizeLinear" not in inputs[name], name
    no_features = onnx.load_from_string(chain())
    del no_features.graph.node[1:]
    with pytest.raises(ExportError, match="no convolutions"):
        quantise_graph(no_features.SerializeToString(), batches)


@pytest.mark.parametrize(("activation", "symmetric"), [("Relu", True), ("Sigmoid", False)])
def test_what_reaches_below_zero_gets_a_zero_point(activation, symmetric):
    """A convolution, x · sigmoid(x) or a rectifier, and two more convolutions."""
    blur = np.full((1, 1, 3, 3), 1 / 9, np.float32)
    active = helper.make_node(activation, ["first"], ["active"], name="active")
    nodes = [
        helper.make_node("Sub", ["images", "mean"], ["centred"], name="centre"),
        conv("first", "centred", "blur"),
        active,
        *([] if symmetric else [helper.make_node("Mul", ["first", "active"], ["swish"], name="swish")]),
        conv("second", "active" if symmetric else "swish", "blur"),
        conv("last", "second", "blur"),
        helper.make_node("Squeeze", ["last", "one"], ["anomaly_map"], name="map"),
        helper.make_node("ReduceMax", ["anomaly_map"], ["anomaly_score"], axes=[1, 2], keepdims=0, name="score"),
    ]
    constants = [("blur", blur), ("mean", np.float32(0.5)), ("one", np.int64([1]))]
    graph = model(nodes, {"anomaly_score": ["n"], "anomaly_map": ["n", "h", "w"]}, constants=constants)
    rng = np.random.default_rng(0)
    quantised = onnx.load_from_string(
        quantise_graph(graph, [8 * rng.random((1, 1, 64, 64), np.float32) - 3.5 for _ in range(4)])
    )
    values = {entry.name: onnx.numpy_helper.to_array(entry) for entry in quantised.graph.initializer}
    points = {node.input[0]: int(values[node.input[2]].flat[0]) for node in quantised.graph.node
              if node.op_type == "QuantizeLinear"}  # fmt: skip
    assert (points["active" if symmetric else "swish"] == 0) == symmetric, points


def test_the_ends_of_a_detector_and_its_suppression_stay_in_float():
    torch.manual_seed(0)
    options = SSDOptions(backbone="test_resnet", weights="random", image_size=64, width=8, frozen_stride=2)
    graph = export_graph(SSD(options, ("good", "pit")), InputSpec(channels=3, height=64, width=64))
    convolutions = [node.name for node in onnx.load_from_string(graph).graph.node if node.op_type == "Conv"]
    kept = float_convolutions(onnx.load_from_string(graph))
    assert kept == {convolutions[0], *(name for name in convolutions if "/head/" in name)}
    batches = [np.random.default_rng(seed).random((1, 3, 64, 64), np.float32) for seed in range(4)]
    quantised = quantise_graph(graph, batches)
    made_by = {name: node for node in onnx.load_from_string(quantised).graph.node for name in node.output}
    for node in made_by.values():
        if node.op_type in ("Conv", "NonMaxSuppression", "TopK", "Softmax"):
            integers = {made_by[name].op_type for name in node.input if name in made_by} & {"DequantizeLinear"}
            assert bool(integers) == (node.op_type == "Conv" and node.name not in kept), node.name
    exact, coarse = (open_engine(own, "openvino", 1).run(batches[0]) for own in (graph, quantised))
    np.testing.assert_allclose(coarse.box_scores, exact.box_scores, atol=0.1)


def test_a_compressed_bundle_decides_alike_and_says_what_it_lost(bundle, images, tmp_path):
    out = tmp_path / "small.blemish"
    made = compress(bundle, out, data=images, engine="onnxruntime", max_verdict_changes=0.2)
    assert (made.images, made.defective, made.calibration_images) == (30, 10, 20)
    assert made.auroc == (1.0, 1.0)
    assert made.speed_up > 0
    opened = open_bundle(out)
    manifest = opened.manifest
    assert manifest.compression == made
    assert manifest.graph.bytes == len(opened.graph)
    assert manifest.decision.rules == ["ignore if area_px < 1"]
    assert manifest.decision.reject != 0.27  # calibrated anew
    assert manifest.certificate is None
    inspector, whole = Inspector.open(out), Inspector.open(bundle)
    for sample in images.samples[::7]:
        small, large = inspector.inspect(sample), whole.inspect(sample)
        assert small.score == pytest.approx(large.score, rel=0.1, abs=0.01)
        assert (str(small.verdict) == "pass") == (not sample.defective)
    with pytest.raises(OptionError, match="compressed already"):
        compress(out, tmp_path / "b.blemish", data=images, engine="onnxruntime")
    with pytest.raises(OptionError, match="compressed for onnxruntime"):
        Inspector.open(out, engine="openvino")


def test_a_loss_beyond_the_limit_is_refused_and_nothing_written(bundle, images, tmp_path, monkeypatch):
    blind = onnx.load_from_string(chain())
    for constant in blind.graph.initializer:
        if constant.name == "blur4":
            constant.CopyFrom(onnx.numpy_helper.from_array(np.zeros((1, 1, 3, 3), np.float32), "blur4"))
    monkeypatch.setattr(compressing, "quantise_graph", lambda *a, **k: blind.SerializeToString())
    out = tmp_path / "small.blemish"
    with pytest.raises(ExportError, match=r"AUROC falls from 1\.0000 to 0\.5000.*nothing was written"):
        compress(bundle, out, data=images, engine="onnxruntime")
    assert not out.exists()


def test_limits():
    made = Compression(
        engine="openvino", source_sha256="", calibration_images=32, images=200, defective=20, auroc=(0.99, 0.986),
        changed_verdicts=0, max_auroc_loss=0.005, max_verdict_changes=0.005, latency_ms=(10.0, 5.0),
        graph_bytes=(4000, 1000), versions={},
    )  # fmt: skip
    assert find_loss(made) is None
    made = made.model_copy(update={"changed_verdicts": 1})
    assert find_loss(made) is None
    assert "2 of 200 verdicts" in find_loss(made.model_copy(update={"changed_verdicts": 2}))
    assert "AUROC" in find_loss(made.model_copy(update={"auroc": (0.99, 0.98)}))
    boxes = made.model_copy(update={"auroc": None, "box_map50": (0.7, 0.69)})  # no image is good
    assert "mAP50 falls from 0.7000 to 0.6900" in find_loss(boxes)
    assert find_loss(boxes.model_copy(update={"box_map50": (0.7, 0.697)})) is None
    slow = made.model_copy(update={"latency_ms": (10.0, 9.9)})
    assert any("does not pay" in line for line in compressing.describe(slow))
    assert not any("does not pay" in line for line in compressing.describe(made))
    boxes = made.model_copy(update={"box_map50": (0.75, 0.745)})
    assert "box mAP50 0.7500 → 0.7450" in compressing.describe(boxes)


def test_what_is_not_known_is_said_of_the_images_that_lack():
    made = Compression(
        engine="openvino", source_sha256="", calibration_images=32, images=20, defective=20, changed_verdicts=0,
        max_auroc_loss=0.005, max_verdict_changes=0.005, latency_ms=(10.0, 5.0), graph_bytes=(4000, 1000), versions={},
    )  # fmt: skip
    assert "no AUROC without both good and defective images among them" in compressing.describe(made)
    assert not any("no defective image" in line for line in compressing.describe(made))
    none = made.model_copy(update={"defective": 0})
    assert any("no defective image" in line for line in compressing.describe(none))


def test_no_product_loses_the_thresholds_of_its_own(bundle, images, tmp_path):
    manifest = open_bundle(bundle).manifest
    own = {name: ProductDecision(decision=manifest.decision) for name in "AB"}
    replace_manifest(bundle, manifest.model_copy(update={"products": own}))
    out, limits = tmp_path / "small.blemish", {"engine": "onnxruntime", "max_verdict_changes": 1.0}

    def of_products(*names):
        samples = [replace(sample, product=names[i // 10 % len(names)]) for i, sample in enumerate(images.samples)]
        return replace(images, samples=tuple(samples))

    with pytest.raises(OptionError, match=r"thresholds of its own for A, B, .*9 good parts of each of A, B"):
        compress(bundle, out, data=of_products("A"), **limits)
    assert not out.exists()
    compress(bundle, out, data=of_products("A", "B"), **limits)
    assert sorted(open_bundle(out).manifest.products) == ["A", "B"]


def test_ranges_reach_beyond_good_images():
    dark = [np.full((1, 3, 40, 60), 0.3, np.float32)] * 8
    strangers = compressing.add_strangers(dark)
    assert len(strangers) == 2
    for own in strangers:
        assert (own.shape, own.dtype) == (dark[0].shape, np.float32)
        assert {float(own.min()), float(own.max())} <= {0.0, 1.0}
    assert all((own == np.float32(0.3)).all() for own in dark)


def test_without_validation_images_there_is_one_line(bundle):
    with pytest.raises(OptionError, match="--data"):
        compress(bundle, bundle.with_name("b.blemish"), engine="onnxruntime")
