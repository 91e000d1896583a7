"""Static quantisation of a graph to 8 bits, by NNCF: the convolutions of the network, and nothing behind them.

Distances, probabilities and whatever follows them stay in float32, and so do the last convolutions: their numbers are
what thresholds are compared with. The graph holds QuantizeLinear and DequantizeLinear nodes, the ONNX standard, which
engines fuse into 8-bit convolutions. Weights use 7 of the 8 bits: sums of two products of 8 bits overflow on processors
without VNNI instructions, so that a bundle would give other results there.
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


def quantise_graph(graph: bytes, batches: Sequence[FloatArray], extremes: bool = False) -> bytes:
    """The graph with 8-bit convolutions, whose ranges are those on prepared images (1, C, H, W).

    Ranges are means over the images, or with `extremes` those of all together, which cut nothing off and are coarser.
    Raises MissingExtraError without NNCF, ExportError where there is nothing to quantise or NNCF cannot.
    """
    try:
        import nncf
        from nncf.quantization.range_estimator import RangeEstimatorParametersSet
    except ImportError as error:
        raise MissingExtraError("NNCF is not installed; pip install 'blemish[int8]'") from error
    model = onnx.load_from_string(graph)
    convolutions = {node.name for node in model.graph.node if node.op_type == QUANTISED}
    kept = float_convolutions(model)
    if convolutions <= kept:
        raise ExportError("the graph has no convolutions to quantise; a smaller input size or backbone is faster")
    names = [entry.name for entry in model.graph.input]
    before = convolution_inputs(model)
    unrectified = any(
        node.op_type in UNRECTIFIED and any(name in before for name in node.output) for node in model.graph.node
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


def float_convolutions(model: onnx.ModelProto) -> set[str]:
    """Names of the convolutions that are not to be quantised: behind distances, or with no other one behind them."""
    behind: set[str] = set()  # tensors
    leads_on, kept = convolution_inputs(model), set()
    for node in model.graph.node:  # in the order of computation
        follows = any(name in behind for name in node.input)
        if follows or node.op_type in DISTANCES:
            behind.update(node.output)
        if node.op_type == QUANTISED and (follows or not any(name in leads_on for name in node.output)):
            kept.add(node.name)
    return kept


def convolution_inputs(model: onnx.ModelProto) -> set[str]:
    """Names of all tensors that a convolution depends on."""
    found: set[str] = set()
    for node in reversed(model.graph.node):
        if node.op_type == QUANTISED or any(name in found for name in node.output):
            found.update(node.input)
    return found
