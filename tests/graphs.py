"""Tiny graphs of known behaviour, and bundles of them."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from blemish.inspection.bundle import write_bundle
from blemish.inspection.manifest import Decision, InputSpec, Manifest, Provenance

PROVENANCE = Provenance(
    created="2024-01-01T00:00:00+00:00",
    blemish="0",
    method="grey",
    paper="none",
    options={},
    seed=0,
    data={},
    versions={},
    config_sha256="",
)


def model(
    nodes: Sequence[onnx.NodeProto], outputs: dict[str, list[Any]], channels: int = 1, constants: Any = ()
) -> bytes:
    """ONNX bytes of a graph from "images" (n, channels, h, w) to the named outputs of the given shapes."""
    graph = helper.make_graph(
        list(nodes),
        "graph",
        [helper.make_tensor_value_info("images", TensorProto.FLOAT, ["n", channels, "h", "w"])],
        [
            helper.make_tensor_value_info(name, TensorProto.INT64 if name == "box_labels" else TensorProto.FLOAT, shape)
            for name, shape in outputs.items()
        ],
        [numpy_helper.from_array(np.asarray(value), name) for name, value in constants],
    )
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.checker.check_model(made)
    return made.SerializeToString()


def grey_anomaly(channels: int = 1) -> bytes:
    """The anomaly map is the mean over channels; the score is the map's maximum."""
    return model(
        [
            helper.make_node("ReduceMean", ["images"], ["anomaly_map"], axes=[1], keepdims=0),
            helper.make_node("ReduceMax", ["anomaly_map"], ["anomaly_score"], axes=[1, 2], keepdims=0),
        ],
        {"anomaly_score": ["n"], "anomaly_map": ["n", "h", "w"]},
        channels,
    )


def grey_classes() -> bytes:
    """P(good) = 1 - brightest pixel; the defect "bright" has the rest, "never" has 0."""
    return model(
        [
            helper.make_node("ReduceMax", ["images"], ["bright"], axes=[2, 3], keepdims=0),
            helper.make_node("Sub", ["one", "bright"], ["good"]),
            helper.make_node("Sub", ["bright", "bright"], ["never"]),
            helper.make_node("Concat", ["good", "bright", "never"], ["class_scores"], axis=1),
        ],
        {"class_scores": ["n", 3]},
        constants=[("one", np.float32([1]))],
    )


def two_masks() -> bytes:
    """Channel 0 is the mask of the first defect class, channel 1 that of the second."""
    return model([helper.make_node("Identity", ["images"], ["mask_scores"])], {"mask_scores": ["n", 2, "h", "w"]}, 2)


def fixed_boxes(boxes: Any, scores: Any, labels: Any, masks: Any = None) -> bytes:
    """The same boxes for every image, whatever it shows, as long as the batch is 1."""
    constants = [
        ("b", np.float32(boxes)[None]),
        ("s", np.float32(scores)[None]),
        ("l", np.int64(labels)[None]),
    ]
    names = ["boxes", "box_scores", "box_labels"]
    if masks is not None:
        constants.append(("m", np.float32(masks)[None]))
        names.append("box_masks")
    nodes = [helper.make_node("Identity", [name], [out]) for (name, _), out in zip(constants, names, strict=True)]
    shapes = {out: list(value.shape) for (_, value), out in zip(constants, names, strict=True)}
    return model(nodes, shapes, constants=constants)


def make_bundle(
    path: Path, graph: bytes, outputs: Sequence[str], decision: Decision | None = None, **fields: Any
) -> Path:
    """Write a bundle of a graph; `fields` are of the manifest, `side`, `channels` and `fit` of its input, and `extra`
    are further members."""
    extra = fields.pop("extra", None)
    side = fields.pop("side", 64)
    spec = InputSpec(channels=fields.pop("channels", 1), height=side, width=side, fit=fields.pop("fit", "stretch"))
    manifest = Manifest(
        name="test",
        classes=fields.pop("classes", ["good", "defect"]),
        outputs=list(outputs),
        input=fields.pop("input", spec),
        decision=decision or Decision(),
        provenance=PROVENANCE,
        **fields,
    )
    return write_bundle(path, graph, manifest, extra)


def anomaly_bundle(path: Path, decision: Decision | None = None, **fields: Any) -> Path:
    """The map is the grey image itself; regions above 0.5, rejected from 0.6."""
    decision = decision or Decision(review=0.5, reject=0.6, map_low=0.4, map_high=0.5)
    graph = grey_anomaly(fields.get("channels", 1))
    return make_bundle(path, graph, ["anomaly_score", "anomaly_map"], decision, **fields)
