"""Which methods fit into a time budget: estimates of the probe, corrected by the measured times of earlier methods."""

import re
import time
from typing import Any

from blemish.dataset.sample import Dataset
from blemish.errors import OptionError
from blemish.inspection.manifest import Tiling
from blemish.report.formatting import duration
from blemish.training.advice.plan import Advice, tiles_per_image
from blemish.training.advice.probe import MachineProfile, estimate, probe_machine

_TIME = re.compile(r"(?:(\d+(?:\.\d+)?)h)?(?:(\d+(?:\.\d+)?)m)?(?:(\d+(?:\.\d+)?)s)?")


def parse_time(text: str) -> float:
    """Seconds of a duration such as 90s, 30m, 2h or 1h30m; raises OptionError for anything else."""
    match = _TIME.fullmatch(text.strip())
    if match is None or not any(match.groups()):
        raise OptionError(f"invalid duration '{text}'; use 90s, 30m, 2h or 1h30m")
    hours, minutes, seconds = (float(own or 0) for own in match.groups())
    return 3600 * hours + 60 * minutes + seconds


class Budget:
    """A time budget that starts now. Methods are asked one after another; the caller fills `taken` (seconds)."""

    def __init__(
        self,
        seconds: float,
        dataset: Dataset,
        advice: Advice,
        folds: int,
        tiling: Tiling | dict[str, Any] | None = None,
    ) -> None:
        self.seconds, self.end = seconds, time.perf_counter() + seconds
        self.dataset = dataset
        self.channels = advice.settings.get("channels", 3)
        self.folds = folds
        self.tiles = tiles_per_image(advice.fingerprint, tiling)
        self.expected: dict[str, float] = {}  # estimated seconds of all trainings of a method
        self.taken: dict[str, float] = {}
        self.skipped: list[str] = []
        self.reserve = 0.0  # for the last training, that of the method chosen by folds
        self._machines: dict[int, MachineProfile] = {}

    def reason_to_skip(self, method: str, options: dict[str, object]) -> str | None:
        """Why a method does not fit into the time left; None where it does."""
        if self.end <= time.perf_counter():
            self.skipped.append(method)
            return "nothing of the budget is left"
        once = self._once(method, options)
        correction = sum(self.taken.values()) / sum(self.expected[name] for name in self.taken) if self.taken else 1.0
        self.expected[method] = once * max(self.folds, 1)
        reserve = max(self.reserve, once) if self.folds else 0.0
        needed = (self.expected[method] + reserve) * correction
        left = self.end - time.perf_counter()
        if needed > left:
            self.skipped.append(method)
            return f"it takes about {duration(needed)} by estimate, and {duration(left)} of the budget are left"
        self.reserve = reserve
        return None

    def _once(self, method: str, options: dict[str, object]) -> float:
        """Seconds of one training and of evaluating the images that it does not train on."""
        side = int(str(options["image_size"]))
        if side not in self._machines:
            self._machines[side] = probe_machine(side, self.channels)
        training = len(self.dataset.split("train"))
        machine, classes = self._machines[side], self.dataset.classes
        cost = estimate(method, options, classes, training, machine, self.channels, self.tiles)
        return cost.training_s + (len(self.dataset) - training) * cost.latency_ms / 1000
