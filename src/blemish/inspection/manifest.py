"""The manifest of a bundle: everything needed to run its graph and reach a verdict, as validated data."""

from typing import Any, Literal

from pydantic import Field

from blemish.files import FrozenModel
from blemish.imaging.pixel_range import PixelSpec
from blemish.imaging.roi import Roi

SCHEMA_VERSION = 2


class InputSpec(FrozenModel):
    """How an image becomes the graph's input: float32 (N, channels, height, width), full scale = 1."""

    channels: int = Field(default=3, ge=1, le=64)
    height: int = Field(default=256, ge=1, le=8192)
    width: int = Field(default=256, ge=1, le=8192)
    fit: Literal["stretch", "letterbox"] = "stretch"
    pixels: PixelSpec | None = None  # of the training images; None (older bundles): full scale of any type, any size


class Tiling(FrozenModel):
    """Size and overlap of tiles, in pixels of the image; each is fitted to the graph's input."""

    height: int = Field(ge=16)
    width: int = Field(ge=16)
    overlap: float = Field(default=0.25, ge=0.0, lt=0.9)  # share of a tile


class Scale(FrozenModel):
    """Pixels per millimetre along x and y."""

    x: float = Field(gt=0)
    y: float = Field(gt=0)
    # Relative, of the scale itself: 90 % lie within. None: not known, as where a person gave the scale.
    uncertainty: float | None = Field(default=None, ge=0, lt=1)


class PictureLimits(FrozenModel):
    """Up to where images may change before verdicts do, relative to the usual image; None: not known.

    Brightness and sharpness as `imaging.quality` measures them; the shift as a share of the image's longer side.
    """

    min_brightness: float | None = Field(default=None, gt=0, le=1)
    max_brightness: float | None = Field(default=None, ge=1)
    min_sharpness: float | None = Field(default=None, ge=0, le=1)
    max_shift: float | None = Field(default=None, ge=0, le=1)


class Decision(FrozenModel):
    """Thresholds and rules, changed without retraining. Scores: higher is worse; a threshold is reached at equality."""

    review: float | None = None
    reject: float | None = None
    map_low: float | None = None  # hysteresis on the heat map: grow regions down to this ...
    map_high: float | None = None  # ... from pixels at or above this
    edge: float = Field(default=0.0, ge=0, lt=1)  # a region's border: this share of the way from map_low to its peak
    min_area_px: float = Field(default=0.0, ge=0)
    class_thresholds: dict[str, float] = Field(default_factory=dict)
    rules: list[str] = Field(default_factory=list)
    zones: dict[str, list[tuple[float, float]]] = Field(default_factory=dict)  # name -> polygon in pixels of the image


class EscapeForecast(FrozenModel):
    """Defects that would pass at the threshold for a false-alarm rate, on validation images or synthetic ones."""

    false_alarm: float
    threshold: float
    passed: int
    defects: int
    interval: tuple[float, float]  # 95 %, of the share that passes
    synthetic: bool


class Calibration(FrozenModel):
    """How the thresholds were chosen, on which images, and the error rates expected of them."""

    source: Literal["held-out", "cross-fitted", "validation", "training"]
    target: str  # in words: "false-alarm rate 0.01", "escape rate 0.01", "lowest cost"
    good_images: int
    defect_images: int = 0
    good_parts: int | None = None  # groups and copies counted once; None: an older bundle, which counted images
    defect_parts: int | None = None
    # Value, low, high (95 %), on the images that chose the thresholds.
    false_alarm: tuple[float, float, float] | None = None
    escape: tuple[float, float, float] | None = None
    warnings: list[str] = Field(default_factory=list)
    temperature: float | None = None
    escapes: list[EscapeForecast] = Field(default_factory=list)

    def with_warning(self, text: str) -> "Calibration":
        """A copy that ends with this warning, once."""
        return self.model_copy(update={"warnings": [*(line for line in self.warnings if line != text), text]})


class Certificate(FrozenModel):
    """Agreement of the shipped graph with the network it was made from, on real validation images.

    Where there are none, on training images with a little noise (`noise`, share of full scale).
    """

    images: int
    noise: float = 0.0
    tolerance: float
    score_difference: float  # largest absolute difference, as a share of the score's scale
    map_difference: float
    score_difference_absolute: float | None = None  # in the score's own unit
    map_difference_absolute: float | None = None
    detections: int | None = None  # boxes compared; 0: there were none
    detections_matched: float | None = None  # share of boxes that both have: same class, IoU > 0.99
    verdict_agreement: float
    versions: dict[str, str]


class GraphInfo(FrozenModel):
    """The size of the graph, and the version of ONNX's operators that it is written in."""

    opset: int
    nodes: int
    bytes: int


class Compression(FrozenModel):
    """What a graph of 8-bit convolutions gives compared with the float32 graph that it was made from.

    On images that neither the training nor the quantisation has seen, with the engine that the thresholds are for.
    """

    to: Literal["int8"] = "int8"
    engine: str  # thresholds and figures hold for this engine only
    source_sha256: str  # of the float32 bundle
    calibration_images: int  # that the ranges of the quantisation come from
    images: int  # compared
    defective: int  # of these
    auroc: tuple[float, float] | None = None  # float32, int8; None without defective images
    pixel_ap: tuple[float, float] | None = None  # None without masks
    box_map50: tuple[float, float] | None = None  # of a detector's boxes; None without such
    changed_verdicts: int
    max_auroc_loss: float  # limits that it was accepted with
    max_verdict_changes: float  # share of the images
    latency_ms: tuple[float, float]  # network only, median of one image or tile: float32, int8, in turns
    graph_bytes: tuple[int, int]
    versions: dict[str, str]

    @property
    def speed_up(self) -> float:
        return self.latency_ms[0] / max(self.latency_ms[1], 1e-9)


class Provenance(FrozenModel):
    created: str  # ISO 8601, UTC
    blemish: str
    method: str
    branch: str = ""
    paper: str
    options: dict[str, Any]
    seed: int
    data: dict[str, Any]  # name, format, counts per split, sha256 of the list of files
    versions: dict[str, str]
    config_sha256: str


class SupportSet(FrozenModel):
    """The rule that turns the graph's embedding and labelled support vectors into class scores; see support_set.py."""

    member: str = "support.npy"  # of the bundle: vectors (S, E) float32
    classes: list[int]  # of each vector, index into the manifest's classes
    weights: list[int]  # images that each vector is the mean of
    rule: Literal["prototype", "attention"] = "prototype"
    metric: Literal["euclidean", "cosine"] = "euclidean"
    scale: float = Field(gt=0)


class ProductDecision(FrozenModel):
    """The decision for one of several products, calibrated on its own validation images."""

    decision: Decision
    calibration: Calibration | None = None


class SizeClassError(FrozenModel):
    """How far a measurement was from the truth, for measured values from `low` to below `high` px (or px²)."""

    low: float = Field(ge=0)
    high: float = Field(gt=0)
    bias: float  # median of measured / true, less 1
    ratio_low: float  # 90 % of measured / true lie from here ...
    ratio_high: float  # ... to here
    uncertainty: float = Field(ge=0)  # relative to the measured value; see `blemish.inspection.uncertainty`
    defects: int = Field(ge=1)


class MeasurementUncertainty(FrozenModel):
    """The errors of measurements on defects of known geometry that the bundle was not trained on."""

    source: Literal["synthetic", "validation", "cross-fitted"]  # of the defects
    defects: int  # with a known shape
    found: int  # of these, matched by a region
    errors: dict[str, list[SizeClassError]]  # by measurement (length, mean_width, area, ...), in rising order of size


class Refinement(FrozenModel):
    """The network that gives regions the border of their defects, and the proof by which it ships or not.

    It is judged by synthetic defects on good images that it was not taught on; their shapes and shading are others than
    the taught ones. IoU is that of a defect with the regions that meet it.
    """

    shipped: bool
    reason: str  # why it ships, or not, in words
    graph: str = "refiner.onnx"  # member of the bundle, where it ships
    memory: str = "refiner_memory.npy"  # member: mean and deviation of good images (h, w, 2 C), float16
    levels: tuple[float, float]  # map_low and map_high of the decision that it was taught with
    closer: bool = False  # long thin defects are seen a second time, at the image's own resolution
    taught: int = 0  # regions of synthetic defects
    judged: int = 0  # defects that regions met
    # Good images that carried the synthetic ones, by split ("tuning"; "val" where those are few); older bundles: empty.
    judged_on: dict[str, int] = Field(default_factory=dict)
    coarse_iou: float | None = None  # means over the judged defects
    refined_iou: float | None = None
    gain: tuple[float, float] | None = None  # 95 % interval of the mean difference
    by_kind: dict[str, tuple[float, float]] = Field(default_factory=dict)  # coarse and refined IoU
    coarse_width_error: float | None = None  # medians of |measured / true - 1|
    refined_width_error: float | None = None

    @property
    def summary(self) -> str:
        """One line for people."""
        if not self.shipped:
            return f"regions are not refined: {self.reason}"
        splits = ", ".join(f"{count} of {split}" for split, count in self.judged_on.items())
        where = f" on good images ({splits})" if splits else ""
        return (
            f"regions are refined: IoU with {self.judged} synthetic defects{where} {self.coarse_iou:.2f} → "
            f"{self.refined_iou:.2f}, error of widths {self.coarse_width_error:.0%} → {self.refined_width_error:.0%}"
        )


class Manifest(FrozenModel):
    schema_version: int = SCHEMA_VERSION
    name: str
    classes: list[str]  # as in Dataset.classes
    outputs: list[str]  # kinds of Outputs, in the graph's order
    input: InputSpec
    template: bool = False  # the graph has a second input of the same kind: a reference image
    exclusive_classes: bool = False  # of mask_scores: their sum is the probability of any defect
    windows: bool = False  # a classifier of windows: with tiles, their probabilities make the class map
    score_source: Literal["graph", "map"] = "graph"  # "map": the image score is that of the map's valid pixels, ...
    worst_share: float = 0.0  # ... the mean of so many of the worst of them: a share of what the graph sees at a time
    tiling: Tiling | None = None
    roi: Roi | None = None
    valid_mask: str | None = None  # member: PNG of the valid pixels of any image, scaled to its size
    scale: Scale | None = None
    picture_limits: PictureLimits | None = None
    measurement_uncertainty: MeasurementUncertainty | None = None  # None: not known
    refinement: Refinement | None = None  # None: not for this kind of output, turned off, or an older bundle
    support: SupportSet | None = None
    decision: Decision = Decision()
    calibration: Calibration | None = None
    products: dict[str, ProductDecision] = Field(
        default_factory=dict
    )  # by product; any other image gets the decision above
    certificate: Certificate | None = None
    graph: GraphInfo | None = None  # None: an older bundle
    compression: Compression | None = None  # None: a graph in float32
    provenance: Provenance
    members: dict[str, str] = Field(default_factory=dict)  # name of a file in the bundle -> SHA-256
