"""Options of a method by preset: `default`, or `paper`, the schedule of its paper (see `paper_options`)."""

import math
from typing import Any, Literal

from blemish.errors import OptionError
from blemish.methods.catalogue import method_class
from blemish.training.learn.paper_options import PAPERS, Epochs

Preset = Literal["default", "paper"]


def preset_options(method: str, preset: Preset, images: int) -> dict[str, Any]:
    """The options that a preset sets, for so many good training images; those count where a paper states epochs.

    Raises OptionError for `paper` where no values of the paper can be carried over, with the reason.
    """
    if preset == "default":
        return {}
    own = PAPERS[method]
    if not own.values:
        raise OptionError(f"{method} has no preset 'paper': {own.missing}")
    values = {value.option: value.value for value in own.values}
    batch = values.get("batch_size", method_class(method).Options.model_fields["batch_size"].default)
    steps_of_epoch = math.ceil(images / batch)
    return {
        option: value.count * steps_of_epoch if isinstance(value, Epochs) else value for option, value in values.items()
    }
