"""What fits into a stated time: estimates of the probe, corrected by what earlier methods really took."""

import re
import time
from typing import Any

from blemish.dataset.sample import Dataset
from blemish.errors import OptionError
from blemish.inspection.manifest import Tiling
from blemish.report.page import duration
from blemish.training.advice.plan import Advice, tiles_an_image
from blemish.training.advice.probe import Machine, estimate, probe_machine

_TIME = re.compile(r"(?:(\d+(?:\.\d+)?)h)?(?:(\d+(?:\.\d+)?)m)?(?:(\d+(?:\.\d+)?)s)?")


def parse_time(text: str) -> float:
    """Seconds of a time such as 90s, 30m, 2h or 1h30m; raises OptionError for anything else."""
    found = _TIME.fullmatch(text.strip())
    if found is None or not any(found.groups()):
        raise OptionError(f"'{text}' is no time; write it as 90s, 30m, 2h or 1h30m")
    hours, minutes, seconds = (float(part or 0) for part in found.groups())
    return 3600 * hours + 60 * minutes + seconds


class Budget:
    """A time that runs from now on. Methods are asked for one after another; each is timed once it is done."""

    def __init__(
        self,
        seconds: float,
        dataset: Dataset,
        advice: Advice,
        folds: int,
        tiling: Tiling | dict[str, Any] | None = None,
    ) -> None:
        self.end = time.perf_counter() + seconds
        self.dataset = dataset
        self.channels = advice.settings.get("channels", 3)
        self.folds = folds
        self.tiles = tiles_an_image(advice.fingerprint, tiling)
        self.expected: dict[str, float] = {}  # seconds of all trainings of a method, by the probe
        self.taken: dict[str, float] = {}
        self.refused: list[str] = []
        self.reserve = 0.0  # of the last training, that of the method chosen by folds
        self._machines: dict[int, Machine] = {}

    def refuses(self, method: str, options: dict[str, object]) -> str | None:
        """Why a method does not fit into what is left; None where it does."""
        if self.end <= time.perf_counter():
            self.refused.append(method)
            return "nothing of the budget is left"
        once = self._once(method, options)
        correction = sum(self.taken.values()) / sum(self.expected[name] for name in self.taken) if self.taken else 1.0
        self.expected[method] = once * max(self.folds, 1)
        reserve = max(self.reserve, once) if self.folds else 0.0
        needed = (self.expected[method] + reserve) * correction
        left = self.end - time.perf_counter()
        if needed > left:
            self.refused.append(method)
            return f"it takes about {duration(needed)} by estimate, and {duration(left)} of the budget are left"
        self.reserve = reserve
        return None

    def spent(self, method: str, seconds: float) -> None:
        self.taken[method] = seconds

    def _once(self, method: str, options: dict[str, object]) -> float:
        """Seconds of one training and of judging the images that were not learnt from."""
        side = int(str(options["image_size"]))
        if side not in self._machines:
            self._machines[side] = probe_machine(side, self.channels)
        training = len(self.dataset.split("train"))
        machine, classes = self._machines[side], self.dataset.classes
        cost = estimate(method, options, classes, training, machine, self.channels, self.tiles)
        return cost.training_s + (len(self.dataset) - training) * cost.latency_ms / 1000
