"""The edge runtime and the command line's help import neither torch nor matplotlib."""

import subprocess
import sys

import pytest

HEAVY = ("torch", "torchvision", "lightning", "timm", "matplotlib", "sklearn", "skimage", "scipy", "onnx", "fastapi")
HELP = """
import sys
import blemish.cli
sys.argv = ["blemish", "--help"]
try:
    blemish.cli.main()
except SystemExit:
    pass
"""
ROOMS = """
import blemish.inspection.inspector, blemish.evaluation.evaluate, blemish.report.overlay, blemish.report.sinks
import blemish.dataset.read, blemish.dataset.audit, blemish.cli.inspect
"""
LOADS = {
    "import blemish": "import blemish",
    "blemish --help": HELP,
    "every torch-free room": ROOMS,
    "the public names of the edge": "from blemish import Inspector, Decision, read_dataset, evaluate",
}


@pytest.mark.parametrize("what", LOADS)
def test_loads_nothing_heavy(what):
    code = f"{LOADS[what]}\nimport sys\nprint('LOADED', [m for m in {HEAVY} if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "LOADED []"
