"""Engines that run a graph: ONNX Runtime, or OpenVINO where it is installed; callable from several threads."""

import threading
from dataclasses import fields
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from blemish.arrays import FloatArray
from blemish.errors import BundleError, MissingExtraError, OptionError, unknown
from blemish.inspection.result import Outputs

ENGINES = ("onnxruntime", "openvino")
_KINDS = tuple(f.name for f in fields(Outputs))


class Engine(Protocol):
    """A graph, ready to run."""

    name: str
    threads: int | None  # None: the engine chooses

    def run(self, batch: FloatArray) -> Outputs:
        """Raw outputs for (N, C, H, W) float32 images; a graph with a second input, the reference image, takes
        (N, 2 C, H, W), the reference image's channels after the image's."""


def open_engine(graph: bytes, engine: str = "onnxruntime", threads: int | None = None) -> Engine:
    """Load an ONNX graph. Raises OptionError, MissingExtraError, or BundleError for a graph that does not load."""
    if threads is not None and threads < 1:
        raise OptionError(f"threads must be at least 1, not {threads}")
    if engine == "onnxruntime":
        return OnnxRuntime(graph, threads)
    if engine == "openvino":
        return OpenVino(graph, threads)
    raise OptionError(unknown("engine", engine, ENGINES))


class OnnxRuntime:
    def __init__(self, graph: bytes, threads: int | None = None) -> None:
        import onnxruntime

        self.name, self.threads = "onnxruntime", threads
        options = onnxruntime.SessionOptions()
        options.log_severity_level = 3  # errors
        options.intra_op_num_threads = threads or 0
        # Waiting threads sleep: spinning ones would take the cores on which the last images are decoded.
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        try:
            self._session = onnxruntime.InferenceSession(graph, options, providers=["CPUExecutionProvider"])
        except Exception as error:  # ONNX Runtime's errors have no common type
            raise BundleError(f"the graph cannot be loaded: {_one_line(error)}") from error
        self._inputs = [entry.name for entry in self._session.get_inputs()]
        self._kinds = _check_kinds([output.name for output in self._session.get_outputs()])

    def run(self, batch: FloatArray) -> Outputs:
        return _outputs(
            self._kinds,
            self._session.run(None, dict(zip(self._inputs, split_inputs(batch, len(self._inputs)), strict=True))),
        )


class OpenVino:
    def __init__(self, graph: bytes, threads: int | None = None) -> None:
        try:
            import openvino
        except ImportError as error:
            raise MissingExtraError("OpenVINO is not installed; pip install 'blemish[openvino]'") from error
        self.name, self.threads = "openvino", threads
        # Exact float32: on some processors OpenVINO would otherwise use bfloat16, and thresholds would no longer fit.
        settings: dict[str, Any] = {"PERFORMANCE_HINT": "LATENCY", "INFERENCE_PRECISION_HINT": "f32"}
        if threads is not None:
            settings["INFERENCE_NUM_THREADS"] = threads
        try:
            core = openvino.Core()
            self._model = core.compile_model(core.read_model(graph, b""), "CPU", settings)
        except Exception as error:  # OpenVINO raises bare RuntimeError and others
            raise BundleError(f"the graph cannot be loaded by OpenVINO: {_one_line(error)}") from error
        self._kinds = _check_kinds([output.get_any_name() for output in self._model.outputs])
        self._local = threading.local()  # an infer request serves one thread at a time

    def run(self, batch: FloatArray) -> Outputs:
        if not hasattr(self._local, "request"):
            self._local.request = self._model.create_infer_request()
        results = self._local.request.infer(split_inputs(batch, len(self._model.inputs)))
        return _outputs(self._kinds, [np.array(results[output]) for output in self._model.outputs])


def split_inputs(batch: NDArray[Any], inputs: int) -> list[NDArray[Any]]:
    """Split the channels of a batch (N, C, H, W) between the graph's inputs, each contiguous."""
    return [np.ascontiguousarray(channels) for channels in np.split(batch, inputs, axis=1)]


def _check_kinds(names: list[str]) -> list[str]:
    for name in names:
        if name not in _KINDS:
            raise BundleError(f"the graph: {unknown('output', name, _KINDS)}")
    return names


def _outputs(kinds: list[str], arrays: list[NDArray[Any]]) -> Outputs:
    typed: dict[str, Any] = {
        kind: np.asarray(array, np.int64 if kind == "box_labels" else np.float32)
        for kind, array in zip(kinds, arrays, strict=True)
    }
    return Outputs(**typed)


def _one_line(error: BaseException) -> str:
    return " ".join(str(error).split())[:200]
