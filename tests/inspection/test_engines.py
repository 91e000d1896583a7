"""Devices of engines: the provider that runs is the one asked for, and what is not there is refused."""

import signal
import subprocess
import sys

import numpy as np
import onnxruntime
import pytest
from graphs import grey_anomaly

from blemish.errors import OptionError
from blemish.inspection import engines
from blemish.inspection.engines import DEVICES, available_devices, find_target, open_engine


def test_the_cpu_is_the_default_and_its_provider_is_active():
    engine = open_engine(grey_anomaly())
    assert (engine.name, engine.device) == ("onnxruntime", "cpu")
    assert engine._session.get_providers() == ["CPUExecutionProvider"]
    assert open_engine(grey_anomaly(), device="CPU").device == "cpu"


def test_openvino_compiles_for_the_device_asked_for():
    openvino = pytest.importorskip("openvino")
    engine = open_engine(grey_anomaly(), "openvino", device="cpu")
    assert engine._model.get_property("EXECUTION_DEVICES") == ["CPU"]
    assert engine._model.get_property("INFERENCE_PRECISION_HINT") == openvino.Type.f32


@pytest.mark.parametrize("device", ["cuda", "cuda:1", "dml", "coreml"])
def test_a_device_that_is_not_there_is_refused(device, monkeypatch):
    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: ["CPUExecutionProvider"])
    with pytest.raises(OptionError, match=f"no device {device} here"):
        open_engine(grey_anomaly(), device=device)


def test_a_provider_that_does_not_start_is_no_silent_run_on_the_cpu(monkeypatch):
    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: ["CUDAExecutionProvider"])
    session = onnxruntime.InferenceSession
    # As ONNX Runtime does where a driver is missing: a session without the provider, and no error.
    monkeypatch.setattr(
        onnxruntime, "InferenceSession", lambda graph, options, providers: session(graph, providers=[onnxruntime_cpu])
    )
    onnxruntime_cpu = "CPUExecutionProvider"
    with pytest.raises(OptionError, match="could not start device cuda"):
        open_engine(grey_anomaly(), device="cuda")


HEARS_SIGNALS = """
import os, signal, sys, threading
from blemish.inspection.engines import open_engine

heard = []
signal.signal(signal.SIGUSR1, lambda *_: heard.append(True))
engines = [open_engine(sys.stdin.buffer.read(), "openvino")]
thread = threading.Thread(target=engines.clear)
thread.start()
thread.join()
os.kill(os.getpid(), signal.SIGUSR1)
print(heard)
"""


@pytest.mark.skipif(not hasattr(signal, "SIGUSR1"), reason="no such signals here")
def test_a_process_hears_signals_after_another_thread_has_closed_its_engine():
    pytest.importorskip("openvino")
    command = [sys.executable, "-X", "faulthandler", "-c", HEARS_SIGNALS]
    done = subprocess.run(command, input=grey_anomaly(), capture_output=True, check=False, timeout=120)
    assert (done.returncode, done.stdout.decode().strip()) == (0, "[True]"), done.stderr.decode()


@pytest.mark.parametrize("device", ["gpu", "gpu:1", "npu"])
def test_openvino_names_the_devices_that_it_finds(device):
    openvino = pytest.importorskip("openvino")
    if any(name.startswith(device[:3].upper()) for name in openvino.Core().available_devices):
        pytest.skip(f"this machine has {device}")
    with pytest.raises(OptionError, match=r"it finds .*CPU"):
        open_engine(grey_anomaly(), "openvino", device=device)


@pytest.mark.parametrize(
    ("engine", "device", "words"),
    [
        ("onnxruntime", "cuba", "did you mean cuda"),
        ("onnxruntime", "cuda:x", "unknown device"),
        ("openvino", "cuda", "openvino runs on cpu, gpu, npu, not on cuda"),
        ("tensorrt", "cpu", "tensorrt runs on cuda, not on cpu"),
    ],
)
def test_devices_that_an_engine_does_not_serve(engine, device, words):
    with pytest.raises(OptionError, match=words):
        open_engine(grey_anomaly(), engine, device=device)


def test_reduced_precision_is_off_on_every_device():
    assert find_target("onnxruntime", "cuda:2").settings == {"device_id": "2", "use_tf32": "0"}
    assert find_target("tensorrt", "cuda").settings["trt_fp16_enable"] == "False"


def test_available_devices_can_be_opened():
    found = available_devices()
    assert "cpu" in found["onnxruntime"]
    assert {device for devices in found.values() for device in devices} <= set(DEVICES)
    batch = np.full((1, 1, 64, 64), 0.5, np.float32)
    for engine, devices in found.items():
        for device in devices:
            outputs = open_engine(grey_anomaly(), engine, device=device).run(batch)
            assert outputs.anomaly_score == pytest.approx(0.5, abs=1e-6)


def test_tensorrt_leaves_the_rest_of_a_graph_to_the_same_gpu(monkeypatch):
    asked = []

    class Session:
        def __init__(self, graph, options, providers):
            asked.extend(providers)

        def get_providers(self):
            return [name for name, _ in asked]

        def disable_fallback(self):
            pass

        def get_inputs(self):
            return []

        get_outputs = get_inputs

    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: ["TensorrtExecutionProvider"])
    monkeypatch.setattr(onnxruntime, "InferenceSession", Session)
    engine = engines.open_engine(b"", "tensorrt", device="cuda:1")
    assert (engine.name, engine.device) == ("tensorrt", "cuda:1")
    assert [name for name, _ in asked] == ["TensorrtExecutionProvider", "CUDAExecutionProvider"]
    assert {settings["device_id"] for _, settings in asked} == {"1"}
