"""Specification of synthetic defects: a YAML list of steps, each with a probability, validated on reading.

Lengths of shapes are shares of the part's shorter side, so that a specification suits images of any size. A pair of
numbers is a range that is sampled uniformly; one number stands for a range of this value only.
"""

from collections.abc import Collection
from pathlib import Path
from typing import Annotated, Any, Literal, get_args

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, field_validator

from blemish.dataset.labels import is_good_name
from blemish.errors import DataError, OptionError, unknown
from blemish.files import load_yaml, validate


def _ordered(pair: tuple[float, float]) -> tuple[float, float]:
    if pair[0] > pair[1]:
        raise ValueError(f"a range goes from the smaller to the larger number, not {pair[0]:g} to {pair[1]:g}")
    return pair


def _as_pair(value: Any) -> Any:
    return (value, value) if isinstance(value, (int, float)) else value


Share = Annotated[float, Field(ge=0, le=1)]
PositiveNumber = Annotated[float, Field(gt=0)]
Count = Annotated[int, Field(ge=1)]
Range = Annotated[tuple[float, float], BeforeValidator(_as_pair), AfterValidator(_ordered)]
ShareRange = Annotated[tuple[Share, Share], BeforeValidator(_as_pair), AfterValidator(_ordered)]
PositiveRange = Annotated[tuple[PositiveNumber, PositiveNumber], BeforeValidator(_as_pair), AfterValidator(_ordered)]
CountRange = Annotated[tuple[Count, Count], BeforeValidator(_as_pair), AfterValidator(_ordered)]


class Step(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    p: Share = Field(
        default=1.0, description="probability of the step in an image; its weight where the specification has `pick`"
    )


class DefectStep(Step):
    label: str | None = Field(default=None, min_length=1, description="class of the defect; none: the step's own name")
    count: CountRange = Field(default=(1, 1), description="number of these defects in an image")

    @field_validator("label")
    @classmethod
    def _check_label(cls, label: str | None) -> str | None:
        if label is not None and (is_good_name(label) or "|" in label or label != label.strip()):
            raise ValueError(f"'{label}' cannot be the class of a defect")
        return label


class ShapeStep(DefectStep):
    length: PositiveRange
    width: PositiveRange
    strength: ShareRange
    tone: Literal["dark", "light", "either"] = "either"


class Scratch(ShapeStep):
    kind: Literal["scratch"]
    length: PositiveRange = (0.1, 0.5)
    width: PositiveRange = (0.004, 0.012)
    strength: ShareRange = (0.15, 0.6)


class Crack(ShapeStep):
    kind: Literal["crack"]
    length: PositiveRange = (0.15, 0.5)
    width: PositiveRange = (0.004, 0.014)
    strength: ShareRange = (0.25, 0.7)
    tone: Literal["dark", "light", "either"] = "dark"


class Pit(ShapeStep):
    """`width` is a share of the length, here and in stain and dent."""

    kind: Literal["pit"]
    length: PositiveRange = (0.015, 0.07)
    width: PositiveRange = (0.6, 1.0)
    strength: ShareRange = (0.3, 0.8)
    tone: Literal["dark", "light", "either"] = "dark"


class Stain(ShapeStep):
    kind: Literal["stain"]
    length: PositiveRange = (0.08, 0.3)
    width: PositiveRange = (0.4, 1.0)
    strength: ShareRange = (0.12, 0.45)
    tint: Share = Field(default=0.3, description="largest difference of the stain's colour from the surface's")


class Dent(ShapeStep):
    kind: Literal["dent"]
    length: PositiveRange = (0.06, 0.2)
    width: PositiveRange = (0.5, 1.0)
    strength: ShareRange = (0.15, 0.45)


class Overlay(DefectStep):
    """A texture blended in under a random mask (Zavrtanik et al. 2021, DRAEM).

    Deviations: one patch of the mask, with a soft edge (the paper: all of them, hard); random textures where no folder
    of pictures is given (the paper: a set of texture photographs).
    """

    kind: Literal["overlay"]
    mask: Literal["perlin", "free-form", "either"] = "perlin"
    texture: str = Field(
        "random", description="random, self (the image, turned and displaced), or a folder of pictures"
    )
    area: PositiveRange = Field(default=(0.001, 0.08), description="area of one patch, share of the part")
    opacity: ShareRange = (0.2, 1.0)
    edge: float = Field(default=1.0, ge=0, description="width of the soft edge in px, within the mask")


class CutPaste(DefectStep):
    """A rectangle of the image copied to another location, its colours changed a little (Li et al. 2021).

    Deviation: the colours change by a gain of each channel and an offset of all (the paper: brightness, contrast,
    saturation and hue), and the rectangle stays on the part.
    """

    kind: Literal["cutpaste"]
    area: PositiveRange = Field(default=(0.02, 0.15), description="area of the rectangle, share of the part")
    aspect: PositiveRange = Field(default=(0.3, 3.3), description="height over width")
    jitter: Share = 0.1


class Scar(DefectStep):
    """CutPaste's scar: a thin rectangle, turned (Li et al. 2021; their px are shares of a picture of 256 px)."""

    kind: Literal["scar"]
    length: PositiveRange = (0.04, 0.1)
    width: PositiveRange = (0.008, 0.06)
    turn: Range = Field(default=(-45, 45), description="degrees")
    jitter: Share = 0.1


class Paste(DefectStep):
    """A real defect, cut out of a labelled image, on another image; it keeps its class unless `label` is given."""

    kind: Literal["paste"]
    classes: tuple[str, ...] = Field(default=(), description="only defects of these classes; none: all")
    blend: Literal["poisson", "soft", "either"] = "either"
    turn: Range = Field(default=(-180, 180), description="degrees")
    size: PositiveRange = Field(default=(0.7, 1.3), description="size of the pasted defect relative to the original")
    mirror: bool = True
    match: Share = Field(default=0.8, description="share by which its brightness is matched to the new surroundings")
    edge: float = Field(default=2.0, ge=0, le=8, description="width of the soft edge in px, outside the mask")


class Affine(Step):
    kind: Literal["affine"]
    turn: Range = (-10, 10)
    scale: PositiveRange = (0.9, 1.1)
    shift: Range = Field(default=(-0.05, 0.05), description="share of the picture's side")
    shear: Range = (-5, 5)
    mirror: bool = False


class Elastic(Step):
    """A random smooth displacement (Simard et al. 2003)."""

    kind: Literal["elastic"]
    reach: PositiveRange = Field(default=(0.002, 0.01), description="typical displacement, share of the shorter side")
    smoothness: float = Field(default=0.08, gt=0.005, le=1, description="width of smoothing, share of the shorter side")


class Blur(Step):
    kind: Literal["blur"]
    sigma: PositiveRange = Field(default=(0.4, 1.2), description="px")


class MotionBlur(Step):
    kind: Literal["motion-blur"]
    length: PositiveRange = Field(default=(2, 7), description="px")
    turn: Range = (0, 180)


class Noise(Step):
    kind: Literal["noise"]
    sigma: PositiveRange = Field(default=(0.005, 0.03), description="share of full scale")


class SaltAndPepper(Step):
    kind: Literal["salt-and-pepper"]
    share: ShareRange = Field(default=(0.0005, 0.004), description="share of the pixels")


class Light(Step):
    """A brightness gradient across the picture, and an overall gain."""

    kind: Literal["light"]
    gradient: ShareRange = (0.0, 0.3)
    gain: PositiveRange = (0.85, 1.15)


AnyStep = Annotated[
    Scratch | Crack | Pit | Stain | Dent | Overlay | CutPaste | Scar | Paste
    | Affine | Elastic | Blur | MotionBlur | Noise | SaltAndPepper | Light,
    Field(discriminator="kind"),
]  # fmt: skip
KINDS = tuple(get_args(kind.model_fields["kind"].annotation)[0] for kind in get_args(get_args(AnyStep)[0]))


class DefectSpec(BaseModel):
    """Steps in the order in which they are carried out."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    steps: tuple[AnyStep, ...] = Field(min_length=1)
    pick: CountRange | None = Field(
        None,
        description="number of defect steps of an image, sampled with weights `p`; none: each step by its probability",
    )
    share: Share = Field(default=0.5, description="share of the good images that get defects in training")
    part: Literal["auto", "whole"] = Field(
        "auto", description="where defects may lie: on the part (auto), or anywhere (whole)"
    )
    visible: Share = Field(default=0.02, description="smallest mean change inside a defect's mask, share of full scale")

    @property
    def changes_images(self) -> bool:
        """Whether it has geometric or photometric steps, which apply to good and defective images alike."""
        return any(not isinstance(step, DefectStep) for step in self.steps)

    @property
    def makes_defects(self) -> bool:
        """Whether it has steps that make defects."""
        return any(isinstance(step, DefectStep) for step in self.steps)

    @property
    def has_paste(self) -> bool:
        return any(isinstance(step, Paste) for step in self.steps)


def check_pastes(spec: DefectSpec, classes: Collection[str]) -> None:
    """Check against the `classes` that have masks to cut out.

    DataError where there are none to paste, OptionError where the specification names another class.
    """
    if spec.has_paste and not classes:
        raise DataError("the specification pastes real defects, but no training image has a mask to cut one out by")
    wanted = {name for step in spec.steps if isinstance(step, Paste) for name in step.classes}
    if missing := sorted(wanted - set(classes)):
        raise OptionError(
            f"the specification pastes defects of {', '.join(missing)}, but no training image has a mask of one; there "
            f"are masks of {', '.join(sorted(classes))}"
        )


def step_label(step: DefectStep) -> str | None:
    """The class of a step's defects; None: that of the pasted defect."""
    if step.label is not None or isinstance(step, Paste):
        return step.label
    return step.kind if isinstance(step, ShapeStep) else "defect"  # type: ignore[attr-defined]


def with_default_label(spec: DefectSpec, defect_classes: tuple[str, ...]) -> DefectSpec:
    """Give steps without a class the data's defect class, where the data have only one."""
    if len(defect_classes) != 1:
        return spec
    only = {"label": defect_classes[0]}
    steps = [
        step.model_copy(update=only) if isinstance(step, DefectStep) and step.label is None else step
        for step in spec.steps
    ]
    return spec.model_copy(update={"steps": tuple(steps)})


def spec_labels(spec: DefectSpec) -> tuple[str, ...]:
    """The classes that a specification makes in addition to those of pasted defects, sorted."""
    labels = {step_label(step) for step in spec.steps if isinstance(step, DefectStep)}
    return tuple(sorted(name for name in labels if name is not None))


def read_defect_spec(path: str | Path) -> DefectSpec:
    """Raises OptionError, in one line, for a file that cannot be read or a step that is wrong."""
    return parse_defect_spec(load_yaml(Path(path), f"the defect specification {path}"), str(path))


def parse_defect_spec(content: Any, name: str = "the defect specification") -> DefectSpec:
    """A specification from the content of its YAML: a mapping with `steps`, or only the list of steps."""
    if isinstance(content, list):
        content = {"steps": content}
    if not isinstance(content, dict) or not isinstance(content.get("steps"), list):
        raise OptionError(f"{name} has no steps; write for example: steps: [{{kind: scratch}}]")
    for step in content["steps"]:
        kind = step.get("kind") if isinstance(step, dict) else step
        if kind not in KINDS:
            raise OptionError(f"{name}, steps: {unknown('kind', str(kind), KINDS)}")
    return validate(DefectSpec, content, name)
