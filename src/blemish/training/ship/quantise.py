"""Static quantisation of a graph to 8 bits, by NNCF: the convolutions of the network, and nothing behind them.

Distances, probabilities and whatever follows them stay in float32, and so do the first and the last convolutions: the
first see small differences of grey values, and the numbers of the last are what thresholds are compared with. The graph
holds QuantizeLinear and DequantizeLinear nodes, the ONNX standard, which engines fuse into 8-bit convolutions. Weights
use 7 of the 8 bits: sums of two products of 8 bits overflow on processors without VNNI instructions, so that a bundle
would give other results there.
"""

import logging
import sys
from collections.abc import Sequence
from contextlib import redirect_stdout

import onnx

from blemish.arrays import FloatArray
from blemish.errors import ExportError, MissingExtraError
from blemish.inspection.engines import split_inputs

QUANTISED = "Conv"
# From the first of these on, a graph no longer computes features but distances or probabilities of them.
DISTANCES = ("MatMul", "Gemm", "Sqrt", "TopK", "ArgMin", "ArgMax", "Softmax")

# Their values reach a little below zero: ranges with a zero point of their own are finer than symmetric ones.
UNRECTIFIED = ("Sigmoid", "HardSigmoid", "HardSwish", "Erf", "Elu", "LeakyRelu", "PRelu", "Softplus", "Tanh")


def quantise_graph(graph: bytes, batches: Sequence[FloatArray], extremes: bool = False, last: int = 1) -> bytes:
    """The graph with 8-bit convolutions, whose ranges are those on prepared images (1, C, H, W).

    Ranges are means over the images, or with `extremes` those of all together, which cut nothing off and are coarser.
    So many convolutions before each output as `last` says stay in float32.
    Raises MissingExtraError without NNCF, ExportError where there is nothing to quantise or NNCF cannot.
    """
    try:
        import nncf
        from nncf.quantization.range_estimator import RangeEstimatorParametersSet
    except ImportError as error:
        raise MissingExtraError("NNCF is not installed; pip install 'blemish[int8]'") from error
    model = onnx.load_from_string(graph)
    convolutions = {node.name for node in model.graph.node if node.op_type == QUANTISED}
    kept = float_convolutions(model, last)
    if convolutions <= kept:
        raise ExportError("the graph has no convolutions to quantise; a smaller input size or backbone is faster")
    names = [entry.name for entry in model.graph.input]
    depth = convolutions_behind(model)
    unrectified = any(
        node.op_type in UNRECTIFIED and any(depth.get(name) for name in node.output) for node in model.graph.node
    )
    settings = nncf.AdvancedQuantizationParameters(overflow_fix=nncf.OverflowFix.ENABLE)
    if extremes:
        settings.activations_range_estimator_params = RangeEstimatorParametersSet.MINMAX
    logging.getLogger("nncf").setLevel(logging.ERROR)  # set_log_level would change the handlers of others, too
    data = nncf.Dataset(list(batches), lambda batch: dict(zip(names, split_inputs(batch, len(names)), strict=True)))
    others = sorted({node.op_type for node in model.graph.node if node.domain == ""} - {QUANTISED, "Constant"})
    try:
        with redirect_stdout(sys.stderr):  # NNCF draws bars, and stdout may be for JSON
            quantised = nncf.quantize(
                model,
                data,
                subset_size=len(batches),
                preset=nncf.QuantizationPreset.MIXED if unrectified else nncf.QuantizationPreset.PERFORMANCE,
                ignored_scope=nncf.IgnoredScope(names=sorted(kept), types=others, validate=False),
                advanced_parameters=settings,
            )
    except Exception as error:  # NNCF's errors have no common type
        raise ExportError(f"the graph cannot be quantised: {' '.join(str(error).split())[:200]}") from error
    content: bytes = quantised.SerializeToString()
    return content


def float_convolutions(model: onnx.ModelProto, last: int = 1) -> set[str]:
    """Names of the convolutions that are not to be quantised: with none before them, fewer than `last` behind them, or
    behind distances."""
    features: set[str] = set()  # tensors that depend on a convolution
    behind: set[str] = set()  # tensors that depend on distances
    depth, kept = convolutions_behind(model), set()
    for node in model.graph.node:  # in the order of computation
        is_first = not any(name in features for name in node.input)
        follows = any(name in behind for name in node.input)
        if follows or node.op_type in DISTANCES:
            behind.update(node.output)
        if node.op_type == QUANTISED or not is_first:
            features.update(node.output)
        if node.op_type == QUANTISED and (is_first or follows or depth.get(node.output[0], 0) < last):
            kept.add(node.name)
    return kept


def convolutions_behind(model: onnx.ModelProto) -> dict[str, int]:
    """For each tensor, how many convolutions follow it in a row, at most."""
    depth: dict[str, int] = {}
    for node in reversed(model.graph.node):
        own = max((depth.get(name, 0) for name in node.output), default=0) + (node.op_type == QUANTISED)
        for name in node.input:
            depth[name] = max(depth.get(name, 0), own)
    return depth
