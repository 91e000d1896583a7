"""Options of methods that also train on a handful of labelled images: embedding losses, averaged weights, a preset."""

from typing import Any, ClassVar, Literal

from pydantic import Field, model_validator

from blemish.methods.base import Options


class SmallSetOptions(Options):
    """Options against overfitting; a subclass may put its defaults for `preset=few` into `few`."""

    few: ClassVar[dict[str, Any]] = {}

    embedding_loss: Literal[
        "none", "prototype", "triplet", "supervised-contrastive", "centre", "large-margin-cosine"
    ] = Field("none", description="added on the features before the last layer, for small sets")  # fmt: skip
    average: float = Field(
        0.0, ge=0, lt=1, description="decay of the moving average of the weights, which ships; 0: the last weights"
    )
    preset: Literal["none", "few"] = Field("none", description="few: defaults for a handful of labelled images")

    @model_validator(mode="before")
    @classmethod
    def _apply_preset(cls, values: Any) -> Any:
        few = isinstance(values, dict) and values.get("preset") == "few"
        return {**cls.few, **values} if few else values
