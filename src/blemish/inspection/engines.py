"""Engines that run a graph: ONNX Runtime, TensorRT through it, or OpenVINO; callable from several threads.

A device is asked for by name; where it is not there, that is an error and never a silent run on the CPU. Half precision
and TF32 are off: thresholds belong to the numbers of float32.
"""

import re
import threading
from collections.abc import Callable
from dataclasses import dataclass, fields
from functools import cache
from importlib.util import find_spec
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from blemish.arrays import FloatArray
from blemish.errors import BundleError, MissingExtraError, OptionError, unknown
from blemish.inspection.result import Outputs

ENGINES = ("onnxruntime", "openvino", "tensorrt")
DEVICES = ("cpu", "cuda", "gpu", "npu", "dml", "coreml")
_KINDS = tuple(f.name for f in fields(Outputs))
_DEVICE = re.compile(r"([a-z]+)(?::(\d+))?")


@dataclass(frozen=True, slots=True)
class Target:
    """What an engine calls a device: ONNX Runtime its provider and settings, OpenVINO the device's name."""

    name: str
    settings: dict[str, str]
    package: str  # that brings it


def find_target(engine: str, device: str) -> Target:
    """What an engine calls the device "cpu", "cuda", "cuda:1", "gpu", "npu", "dml" or "coreml".

    Raises OptionError for an unknown device, or for one that the engine does not serve.
    """
    match = _DEVICE.fullmatch(device.lower())
    if match is None or match[1] not in DEVICES:
        raise OptionError(unknown("device", device, DEVICES))
    kind, number = match[1], match[2] or "0"
    targets = {
        ("onnxruntime", "cpu"): Target("CPUExecutionProvider", {}, "onnxruntime"),
        ("onnxruntime", "cuda"): Target(
            "CUDAExecutionProvider", {"device_id": number, "use_tf32": "0"}, "onnxruntime-gpu"
        ),
        ("onnxruntime", "dml"): Target("DmlExecutionProvider", {"device_id": number}, "onnxruntime-directml"),
        ("onnxruntime", "coreml"): Target("CoreMLExecutionProvider", {}, "onnxruntime"),
        ("tensorrt", "cuda"): Target(
            "TensorrtExecutionProvider",
            {"device_id": number, "trt_fp16_enable": "False", "trt_int8_enable": "False"},
            "onnxruntime-gpu tensorrt",
        ),
        ("openvino", "cpu"): Target("CPU", {}, "openvino"),
        ("openvino", "gpu"): Target(f"GPU.{number}" if match[2] else "GPU", {}, "openvino"),
        ("openvino", "npu"): Target("NPU", {}, "openvino"),
    }
    if (target := targets.get((engine, kind))) is None:
        served = ", ".join(name for own, name in targets if own == engine)
        raise OptionError(f"{engine} runs on {served}, not on {kind}; choose another --device or --engine")
    return target


def available_devices() -> dict[str, list[str]]:
    """By installed engine, the names of the devices that it finds on this machine."""
    import onnxruntime

    found: dict[str, list[str]] = {engine: [] for engine in ENGINES if engine != "openvino" or find_spec("openvino")}
    here = set(onnxruntime.get_available_providers())
    if "openvino" in found:
        import openvino

        here |= {name.split(".")[0] for name in _kept_core(openvino.Core).available_devices}
    for engine, devices in found.items():
        for device in DEVICES:
            try:
                target = find_target(engine, device)
            except OptionError:
                continue
            if target.name in here:
                devices.append(device)
    return {engine: devices for engine, devices in found.items() if devices}


class Engine(Protocol):
    """A graph, ready to run."""

    name: str
    threads: int | None  # None: the engine chooses
    device: str

    def run(self, batch: FloatArray) -> Outputs:
        """Raw outputs for (N, C, H, W) float32 images; a graph with a second input, the reference image, takes
        (N, 2 C, H, W), the reference image's channels after the image's."""


def default_device(engine: str) -> str:
    """The CPU; for TensorRT, which has none, "cuda"."""
    return "cuda" if engine == "tensorrt" else "cpu"


def open_engine(
    graph: bytes, engine: str = "onnxruntime", threads: int | None = None, device: str | None = None
) -> Engine:
    """Load an ONNX graph on a device, by default the engine's `default_device`.

    Raises OptionError for what is unknown or not there, MissingExtraError, or BundleError for a graph that does not
    load.
    """
    if threads is not None and threads < 1:
        raise OptionError(f"threads must be at least 1, not {threads}")
    if engine not in ENGINES:
        raise OptionError(unknown("engine", engine, ENGINES))
    device = default_device(engine) if device is None else device.lower()
    target = find_target(engine, device)
    if engine == "openvino":
        return OpenVino(graph, target, device, threads)
    return OnnxRuntime(graph, target, device, threads, engine)


class OnnxRuntime:
    def __init__(
        self, graph: bytes, target: Target, device: str, threads: int | None = None, name: str = "onnxruntime"
    ) -> None:
        import onnxruntime

        self.name, self.threads, self.device = name, threads, device
        if target.name not in (there := onnxruntime.get_available_providers()):
            names = ", ".join(provider.removesuffix("ExecutionProvider") for provider in there)
            raise OptionError(
                f"{name} has no device {device} here (it was built with {names}); pip install {target.package}, or "
                "choose --device cpu"
            )
        options = onnxruntime.SessionOptions()
        options.log_severity_level = 3  # errors
        options.intra_op_num_threads = threads or 0
        # Waiting threads sleep: spinning ones would take the cores on which the last images are decoded.
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        providers = [(target.name, target.settings)]
        if target.name == "TensorrtExecutionProvider":  # what TensorRT does not take still runs on the same GPU
            providers.append(("CUDAExecutionProvider", find_target("onnxruntime", device).settings))
        try:
            self._session = onnxruntime.InferenceSession(graph, options, providers=providers)
        except Exception as error:  # ONNX Runtime's errors have no common type
            raise BundleError(f"the graph cannot be loaded: {_one_line(error)}") from error
        if self._session.get_providers()[0] != target.name:  # it falls back on the CPU with no more than a log line
            raise OptionError(
                f"{name} could not start device {device}; check its driver and libraries, or choose --device cpu"
            )
        self._session.disable_fallback()
        self._inputs = [entry.name for entry in self._session.get_inputs()]
        self._kinds = _check_kinds([output.name for output in self._session.get_outputs()])

    def run(self, batch: FloatArray) -> Outputs:
        return _outputs(
            self._kinds,
            self._session.run(None, dict(zip(self._inputs, split_inputs(batch, len(self._inputs)), strict=True))),
        )


@cache
def _kept_core(make: Callable[[], Any]) -> Any:
    """OpenVINO's core, one for the process, which is never closed.

    Its plug-in for CPUs gives the calling thread a stack for signals, and takes that memory away when the last user of
    the core is closed. Where another thread closes it, the next signal that the first one hears ends the process.
    """
    return make()


class OpenVino:
    def __init__(self, graph: bytes, target: Target, device: str, threads: int | None = None) -> None:
        try:
            import openvino
        except ImportError as error:
            raise MissingExtraError("OpenVINO is not installed; pip install 'blemish[openvino]'") from error
        self.name, self.threads, self.device = "openvino", threads, device
        core = _kept_core(openvino.Core)
        if target.name.split(".")[0] not in {name.split(".")[0] for name in core.available_devices}:
            raise OptionError(
                f"OpenVINO has no device {device} here (it finds {', '.join(core.available_devices)}); install its "
                "driver, or choose --device cpu"
            )
        # Exact float32: on some processors OpenVINO would otherwise use bfloat16, and thresholds would no longer fit.
        settings: dict[str, Any] = {"PERFORMANCE_HINT": "LATENCY", "INFERENCE_PRECISION_HINT": "f32"}
        if threads is not None and target.name == "CPU":
            settings["INFERENCE_NUM_THREADS"] = threads
        try:
            self._model = core.compile_model(core.read_model(graph, b""), target.name, settings)
        except Exception as error:  # OpenVINO raises bare RuntimeError and others
            raise BundleError(f"the graph cannot be loaded by OpenVINO: {_one_line(error)}") from error
        self._kinds = _check_kinds([_known_name(output.get_names()) for output in self._model.outputs])
        self._local = threading.local()  # an infer request serves one thread at a time

    def run(self, batch: FloatArray) -> Outputs:
        if not hasattr(self._local, "request"):
            self._local.request = self._model.create_infer_request()
        results = self._local.request.infer(split_inputs(batch, len(self._model.inputs)))
        return _outputs(self._kinds, [np.array(results[output]) for output in self._model.outputs])


def split_inputs(batch: NDArray[Any], inputs: int) -> list[NDArray[Any]]:
    """Split the channels of a batch (N, C, H, W) between the graph's inputs, each contiguous."""
    return [np.ascontiguousarray(channels) for channels in np.split(batch, inputs, axis=1)]


def _known_name(names: set[str]) -> str:
    """The name of an output that is known, if any is: one that two nodes share, as OpenVINO orders them, has both."""
    return min(names, key=lambda name: (name not in _KINDS, name), default="")


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
