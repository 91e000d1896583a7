"""Surface-defect inspection: what a defect is, where it is, and how much of it there is."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

if TYPE_CHECKING:
    from blemish.dataset.read import read_dataset
    from blemish.dataset.sample import Dataset, Sample
    from blemish.errors import BlemishError
    from blemish.evaluation.evaluate import evaluate
    from blemish.evaluation.pod_sweep import pod
    from blemish.geometry import Box
    from blemish.inspection.enroll import enroll
    from blemish.inspection.inspector import Inspector
    from blemish.inspection.manifest import Decision
    from blemish.inspection.result import Inspection, Measurements, Reason, Region, Verdict
    from blemish.methods.catalogue import list_methods
    from blemish.training.advice.plan import advise
    from blemish.training.comparison.compare import compare
    from blemish.training.train import resume, train

# Public name -> its module, which is loaded on first use, so that `import blemish` is quick and free of torch.
_PUBLIC = {
    "BlemishError": "blemish.errors",
    "Box": "blemish.geometry",
    "Dataset": "blemish.dataset.sample",
    "Decision": "blemish.inspection.manifest",
    "Inspection": "blemish.inspection.result",
    "Inspector": "blemish.inspection.inspector",
    "Measurements": "blemish.inspection.result",
    "Reason": "blemish.inspection.result",
    "Region": "blemish.inspection.result",
    "Sample": "blemish.dataset.sample",
    "Verdict": "blemish.inspection.result",
    "advise": "blemish.training.advice.plan",
    "compare": "blemish.training.comparison.compare",
    "enroll": "blemish.inspection.enroll",
    "evaluate": "blemish.evaluation.evaluate",
    "list_methods": "blemish.methods.catalogue",
    "pod": "blemish.evaluation.pod_sweep",
    "read_dataset": "blemish.dataset.read",
    "resume": "blemish.training.train",
    "train": "blemish.training.train",
}

__all__ = [
    "BlemishError", "Box", "Dataset", "Decision", "Inspection", "Inspector", "Measurements", "Reason", "Region",
    "Sample", "Verdict", "advise", "compare", "enroll", "evaluate", "list_methods", "pod", "read_dataset", "resume",
    "train",
]  # fmt: skip


def __getattr__(name: str) -> Any:
    if name not in _PUBLIC:
        raise AttributeError(f"module 'blemish' has no attribute '{name}'")
    return getattr(import_module(_PUBLIC[name]), name)


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
