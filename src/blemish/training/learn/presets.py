"""Options of a method by preset: `default`, or `paper`, the schedule of its paper.

The values of the papers, with their sections, are in `paper_options`.
"""

from typing import Any, Literal

from blemish.errors import OptionError
from blemish.training.learn.paper_options import PAPERS

Preset = Literal["default", "paper"]


def preset_options(method: str, preset: Preset) -> dict[str, Any]:
    """The options of a preset that differ from the defaults; raises OptionError where a paper gives no schedule."""
    if preset == "default":
        return {}
    if method not in PAPERS:
        raise OptionError(f"{method} has no preset 'paper'; take the default, or give its options with --set")
    return {value.option: value.value for value in PAPERS[method].values}
