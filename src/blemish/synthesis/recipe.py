"""A recipe for synthetic defects: a YAML list of steps, each with a probability, validated on reading.

Lengths of shapes are shares of the part's shorter side, so that a recipe holds for images of any size. A pair of
numbers is a range that is drawn from evenly; one number stands for a range from it to it.
"""

import difflib
from collections.abc import Collection
from pathlib import Path
from typing import Annotated, Any, Literal, get_args

import yaml
from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, field_validator

from blemish.dataset.image_files import is_good_name
from blemish.errors import DataError, OptionError


def _ordered(pair: tuple[float, float]) -> tuple[float, float]:
    if pair[0] > pair[1]:
        raise ValueError(f"a range goes from the smaller to the larger number, not {pair[0]:g} to {pair[1]:g}")
    return pair


def _as_pair(value: Any) -> Any:
    return (value, value) if isinstance(value, (int, float)) else value


Share = Annotated[float, Field(ge=0, le=1)]
Positive = Annotated[float, Field(gt=0)]
Count = Annotated[int, Field(ge=1)]
Between = Annotated[tuple[float, float], BeforeValidator(_as_pair), AfterValidator(_ordered)]
Shares = Annotated[tuple[Share, Share], BeforeValidator(_as_pair), AfterValidator(_ordered)]
Lengths = Annotated[tuple[Positive, Positive], BeforeValidator(_as_pair), AfterValidator(_ordered)]
Counts = Annotated[tuple[Count, Count], BeforeValidator(_as_pair), AfterValidator(_ordered)]


class Step(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    p: Share = Field(1.0, description="probability of the step in an image; its weight where the recipe says `pick`")


class DefectStep(Step):
    label: str | None = Field(None, min_length=1, description="class of the defect; none: the step's own name for it")
    count: Counts = Field((1, 1), description="how many of them in an image")

    @field_validator("label")
    @classmethod
    def _of_a_defect(cls, label: str | None) -> str | None:
        if label is not None and (is_good_name(label) or "|" in label or label != label.strip()):
            raise ValueError(f"'{label}' cannot be the class of a defect")
        return label


class ShapeStep(DefectStep):
    length: Lengths
    width: Lengths
    strength: Shares
    tone: Literal["dark", "light", "either"] = "either"


class Scratch(ShapeStep):
    kind: Literal["scratch"]
    length: Lengths = (0.1, 0.5)
    width: Lengths = (0.004, 0.012)
    strength: Shares = (0.15, 0.6)


class Crack(ShapeStep):
    kind: Literal["crack"]
    length: Lengths = (0.15, 0.5)
    width: Lengths = (0.004, 0.014)
    strength: Shares = (0.25, 0.7)
    tone: Literal["dark", "light", "either"] = "dark"


class Pit(ShapeStep):
    """`width` is a share of the length, here and in stain and dent."""

    kind: Literal["pit"]
    length: Lengths = (0.015, 0.07)
    width: Lengths = (0.6, 1.0)
    strength: Shares = (0.3, 0.8)
    tone: Literal["dark", "light", "either"] = "dark"


class Stain(ShapeStep):
    kind: Literal["stain"]
    length: Lengths = (0.08, 0.3)
    width: Lengths = (0.4, 1.0)
    strength: Shares = (0.12, 0.45)
    tint: Share = Field(0.3, description="how far the stain's colour may lie from the surface's")


class Dent(ShapeStep):
    kind: Literal["dent"]
    length: Lengths = (0.06, 0.2)
    width: Lengths = (0.5, 1.0)
    strength: Shares = (0.15, 0.45)


class Overlay(DefectStep):
    """A texture blended in where a random mask says so (Zavrtanik et al. 2021, DRAEM).

    Deviations: one patch of the mask, with a soft edge (the paper: all of them, hard); drawn textures where no folder
    of pictures is given (the paper: a set of texture photographs).
    """

    kind: Literal["overlay"]
    mask: Literal["perlin", "free-form", "either"] = "perlin"
    texture: str = Field("drawn", description="drawn, self (the image, turned and displaced), or a folder of pictures")
    area: Lengths = Field((0.001, 0.08), description="of one patch, share of the part")
    opacity: Shares = (0.2, 1.0)
    edge: float = Field(1.0, ge=0, description="width of the soft edge in px, within the mask")


class CutPaste(DefectStep):
    """A rectangle of the image copied to another place, its colours changed a little (Li et al. 2021).

    Deviation: the colours change by a gain of each channel and an offset of all (the paper: brightness, contrast,
    saturation and hue), and the rectangle stays on the part.
    """

    kind: Literal["cutpaste"]
    area: Lengths = Field((0.02, 0.15), description="of the rectangle, share of the part")
    aspect: Lengths = Field((0.3, 3.3), description="height over width")
    jitter: Share = 0.1


class Scar(DefectStep):
    """CutPaste's scar: a thin rectangle, turned (Li et al. 2021; their px are shares of a picture of 256 px)."""

    kind: Literal["scar"]
    length: Lengths = (0.04, 0.1)
    width: Lengths = (0.008, 0.06)
    turn: Between = Field((-45, 45), description="degrees")
    jitter: Share = 0.1


class Paste(DefectStep):
    """A real defect, cut out of a labelled image, on another image; it keeps its class unless `label` is given."""

    kind: Literal["paste"]
    classes: tuple[str, ...] = Field((), description="only defects of these classes; none: all")
    blend: Literal["poisson", "soft", "either"] = "either"
    turn: Between = Field((-180, 180), description="degrees")
    size: Lengths = Field((0.7, 1.3), description="of the pasted defect in parts of its own")
    mirror: bool = True
    match: Share = Field(0.8, description="how far its surroundings' brightness is moved to that of the new place")
    edge: float = Field(2.0, ge=0, le=8, description="width of the soft edge in px, outside the mask")


class Affine(Step):
    kind: Literal["affine"]
    turn: Between = (-10, 10)
    scale: Lengths = (0.9, 1.1)
    shift: Between = Field((-0.05, 0.05), description="share of the picture's side")
    shear: Between = (-5, 5)
    mirror: bool = False


class Elastic(Step):
    """A random smooth displacement (Simard et al. 2003)."""

    kind: Literal["elastic"]
    reach: Lengths = Field((0.002, 0.01), description="typical displacement, share of the shorter side")
    smoothness: float = Field(0.08, gt=0.005, le=1, description="width of the smoothing, share of the shorter side")


class Blur(Step):
    kind: Literal["blur"]
    sigma: Lengths = Field((0.4, 1.2), description="px")


class MotionBlur(Step):
    kind: Literal["motion-blur"]
    length: Lengths = Field((2, 7), description="px")
    turn: Between = (0, 180)


class Noise(Step):
    kind: Literal["noise"]
    sigma: Lengths = Field((0.005, 0.03), description="share of full scale")


class SaltAndPepper(Step):
    kind: Literal["salt-and-pepper"]
    share: Shares = Field((0.0005, 0.004), description="of the pixels")


class Light(Step):
    """A brightness that falls across the picture, and an overall gain."""

    kind: Literal["light"]
    gradient: Shares = (0.0, 0.3)
    gain: Lengths = (0.85, 1.15)


AnyStep = Annotated[
    Scratch | Crack | Pit | Stain | Dent | Overlay | CutPaste | Scar | Paste
    | Affine | Elastic | Blur | MotionBlur | Noise | SaltAndPepper | Light,
    Field(discriminator="kind"),
]  # fmt: skip
KINDS = tuple(get_args(kind.model_fields["kind"].annotation)[0] for kind in get_args(get_args(AnyStep)[0]))


class Recipe(BaseModel):
    """Steps in the order in which they are carried out."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    steps: tuple[AnyStep, ...] = Field(min_length=1)
    pick: Counts | None = Field(
        None, description="how many of the defect steps an image gets, drawn by `p`; none: each by its probability"
    )
    share: Share = Field(0.5, description="of the good images that get defects while learning")
    part: Literal["auto", "whole"] = Field("auto", description="where defects may lie: on the part, or anywhere")
    visible: Share = Field(0.02, description="least mean change inside a defect's mask, share of full scale")

    @property
    def changes(self) -> bool:
        """Whether it has geometric or photometric steps, which are for good and defective images alike."""
        return any(not isinstance(step, DefectStep) for step in self.steps)

    @property
    def draws(self) -> bool:
        """Whether it has steps that make defects."""
        return any(isinstance(step, DefectStep) for step in self.steps)

    @property
    def pastes(self) -> bool:
        return any(isinstance(step, Paste) for step in self.steps)


def check_pastes(recipe: Recipe, known: Collection[str]) -> None:
    """DataError where nothing `known` to have a mask can be pasted, OptionError where a class that is named cannot."""
    if recipe.pastes and not known:
        raise DataError("the recipe pastes real defects and no training image has a mask to cut one out by")
    wanted = {name for step in recipe.steps if isinstance(step, Paste) for name in step.classes}
    if missing := sorted(wanted - set(known)):
        raise OptionError(
            f"the recipe pastes defects of {', '.join(missing)} and no training image marks one; it marks "
            f"{', '.join(sorted(known))}"
        )


def own_label(step: DefectStep) -> str | None:
    """The class that a step's defects bear where the recipe gives none; None: that of the pasted defect."""
    if step.label is not None or isinstance(step, Paste):
        return step.label
    return step.kind if isinstance(step, ShapeStep) else "defect"  # type: ignore[attr-defined, no-any-return]


def with_default_label(recipe: Recipe, defect_classes: tuple[str, ...]) -> Recipe:
    """The recipe with steps that name no class taking the data's only defect class, where there is just one."""
    if len(defect_classes) != 1:
        return recipe
    only = {"label": defect_classes[0]}
    steps = [
        step.model_copy(update=only) if isinstance(step, DefectStep) and step.label is None else step
        for step in recipe.steps
    ]
    return recipe.model_copy(update={"steps": tuple(steps)})


def labels_of(recipe: Recipe) -> tuple[str, ...]:
    """The classes that a recipe makes beyond those of pasted defects, sorted."""
    found = {own_label(step) for step in recipe.steps if isinstance(step, DefectStep)}
    return tuple(sorted(name for name in found if name is not None))


def read_recipe(path: str | Path) -> Recipe:
    """Raises OptionError, in one line, for a file that cannot be read or a step that is wrong."""
    try:
        content = yaml.safe_load(Path(path).read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise OptionError(f"the recipe {path} cannot be read: {str(error).splitlines()[0]}") from error
    return parse_recipe(content, str(path))


def parse_recipe(content: Any, name: str = "the recipe") -> Recipe:
    """A recipe from the content of its YAML: a mapping with `steps`, or just the list of steps."""
    if isinstance(content, list):
        content = {"steps": content}
    if not isinstance(content, dict) or not isinstance(content.get("steps"), list):
        raise OptionError(f"{name} holds no steps; write for example: steps: [{{kind: scratch}}]")
    for step in content["steps"]:
        kind = step.get("kind") if isinstance(step, dict) else step
        if kind not in KINDS:
            near = difflib.get_close_matches(str(kind), KINDS, n=3) or KINDS
            raise OptionError(f"{name} has a step of the kind {kind!r}; did you mean {', '.join(near)}?")
    try:
        return Recipe.model_validate(content)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"]) or "steps"
        raise OptionError(f"{name}, {where}: {first['msg'][0].lower()}{first['msg'][1:]}") from error
