"""Up to which disturbance of its images a bundle keeps its verdicts, and where they begin to change."""

from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

import numpy as np

from blemish.arrays import Image, Mask
from blemish.dataset.ground_truth import defect_instances, has_mask, known_boxes
from blemish.dataset.sample import Sample
from blemish.dataset.valid_mask import valid_mask
from blemish.errors import BlemishError, DataError, MissingExtraError
from blemish.evaluation.intervals import RateEstimate
from blemish.evaluation.units import Units, count_units, describe_images, estimate_share, find_units
from blemish.geometry import box_areas, box_array
from blemish.imaging.quality import Quality, make_thumbnail, measure_quality
from blemish.imaging.read import read_image
from blemish.inspection.inspector import Inspector
from blemish.inspection.manifest import PictureLimits
from blemish.inspection.result import Verdict
from blemish.qualify.disturbances import DISTURBANCES, Disturbance
from blemish.translation import Translate

if TYPE_CHECKING:
    from matplotlib.figure import Figure

MIN_PARTS = 5  # good ones that pass, and defective ones that are stopped
MIN_CONFIDENCE = 0.3  # of a measured shift


@dataclass(frozen=True)
class LevelResult:
    """Verdicts at one strength, of the images whose verdict was right without the disturbance."""

    level: float
    stopped: RateEstimate | None  # good parts that passed and no longer do
    missed: RateEstimate | None  # defective parts that were stopped and now pass
    missed_by_size: dict[str, RateEstimate]  # side of the image's largest defect in px ("8 to 16") -> the same
    quality: Quality  # medians of brightness and sharpness against the undisturbed image, and of the shift


@dataclass(frozen=True)
class Sweep:
    """All strengths of one kind. `limit` is the strongest up to which everything stays within what is allowed."""

    name: str
    unit: str
    levels: list[LevelResult]
    first_stopped: float | None  # the mildest level at which a good part is stopped
    first_missed: float | None  # the mildest level at which a defective part passes
    limit: float | None  # None: not even the mildest level


# How people call a disturbance: a shift is also a part of the working day, which has another word in other languages.
TITLES = {"shift": "displacement"}


@dataclass(frozen=True)
class Robustness:
    """Counts and rates are of parts: images of one group and copies are one, see `blemish.evaluation.units`."""

    good: int  # good parts that pass undisturbed
    defective: int  # defective parts that are stopped undisturbed
    left_out: int  # annotated parts whose verdict is wrong already
    allowed_stopped: float  # share of good parts that may be stopped within a limit
    sweeps: list[Sweep]
    limits: PictureLimits  # what a station can watch
    warnings: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class _RightImage:
    """An image with a right verdict."""

    sample: Sample
    image: Image
    valid: Mask | None
    size_class: str | None  # of a defective part
    unit: str | None = None


def measure_robustness(
    inspector: Inspector,
    samples: Sequence[Sample],
    allowed_stopped: float = 0.0,
    disturbances: Sequence[Disturbance] = DISTURBANCES,
    seed: int = 0,
    on_image: Callable[[], None] = lambda: None,
) -> Robustness:
    """Inspect annotated samples under every disturbance; no defective part may newly pass within a limit.

    Masks of valid pixels stay where they are, as the camera does. Images that can no longer be inspected, such as where
    no part is located, count as stopped. Raises DataError where too few verdicts are right undisturbed.
    """
    images, wrong = _right_images(inspector, samples)
    for _ in samples:
        on_image()
    good, defective = ([i.unit for i in images if bool(i.sample.defective) is kind] for kind in (False, True))
    if (passing := count_units(good)) < MIN_PARTS:
        raise DataError(f"{passing} good parts pass undisturbed; robustness needs {MIN_PARTS} or more of them")
    sweeps = []
    for disturbance in disturbances:
        levels = []
        for level in disturbance.levels:
            levels.append(_measure_level(inspector, images, disturbance, level, seed))
            on_image()
        sweeps.append(_summarise(disturbance, levels, allowed_stopped))
    parts, left_out = count_units(defective), count_units(find_units(wrong))
    warnings = describe_doubts(good, defective, left_out)
    limits = find_picture_limits(sweeps)
    return Robustness(passing, parts, left_out, allowed_stopped, sweeps, limits, warnings)


def describe_doubts(good: Units, defective: Units, left_out: int) -> list[str]:
    """A line each of images that are not parts of their own, of few defective parts, and of parts left out."""
    lines = [
        f"{describe_images(kind, own)}, by groups and copies: rates and their intervals count each part once"
        for kind, own in (("good", good), ("defective", defective))
        if count_units(own) < len(own)
    ]
    if (parts := count_units(defective)) < MIN_PARTS:
        lines.append(f"{parts} defective parts are stopped undisturbed: little is known of misses")
    if left_out:
        lines.append(f"{left_out} annotated parts have a wrong verdict undisturbed and say nothing here")
    return lines


def find_picture_limits(sweeps: Sequence[Sweep]) -> PictureLimits:
    """The measured brightness, sharpness and shift at the limits.

    Where not even the mildest level is within what is allowed, its own figures are the limit: an alarm is due there.
    Where every level is, nothing bounds the figure.
    """
    found: dict[str, float | None] = {}
    for name, field_name, key in (
        ("darker", "min_brightness", "brightness"),
        ("brighter", "max_brightness", "brightness"),
        ("blur", "min_sharpness", "sharpness"),
        ("shift", "max_shift", "shift"),
    ):
        sweep = next((own for own in sweeps if own.name == name), None)
        if sweep is None or sweep.limit == sweep.levels[-1].level:
            continue
        at = next((own for own in sweep.levels if own.level == sweep.limit), sweep.levels[0])
        value = sweep.limit if name == "shift" and sweep.limit is not None else at.quality.get(key)
        if value is not None:
            found[field_name] = min(value, 1.0) if field_name.startswith("min") else value
    if "max_brightness" in found:
        found["max_brightness"] = max(1.0, found["max_brightness"] or 1.0)
    return PictureLimits(**found)


def _right_images(inspector: Inspector, samples: Sequence[Sample]) -> tuple[list[_RightImage], list[Sample]]:
    """Annotated images whose verdict is right, and the samples with a wrong one."""
    images, wrong = [], []
    for sample in samples:
        if sample.defective is None:
            continue
        image = read_image(sample.image)
        size = (image.shape[0], image.shape[1])
        valid = valid_mask(sample, size) if sample.limits_pixels else None
        if _passes(inspector, sample, image, valid) == sample.defective:
            wrong.append(sample)
            continue
        images.append(_RightImage(sample, image, valid, _size_class(sample, size) if sample.defective else None))
    units = find_units([own.sample for own in images])
    return [replace(own, unit=unit) for own, unit in zip(images, units, strict=True)], wrong


def _passes(inspector: Inspector, sample: Sample, image: Image, valid: Mask | None) -> bool:
    template = sample.template if inspector.manifest.template else None
    try:
        return inspector.inspect(image, template=template, valid=valid).verdict == Verdict.PASS
    except BlemishError:
        return False


def _size_class(sample: Sample, size: tuple[int, int]) -> str | None:
    """Doubling class of the largest defect's side (square root of its area), where it is annotated."""
    try:
        if has_mask(sample):
            areas = [float(one.mask.sum()) for one in defect_instances(sample, size)]
        else:
            areas = box_areas(box_array(known_boxes(sample, size) or ())).tolist()
    except BlemishError:
        return None
    if not areas or max(areas) <= 0:
        return None
    low = 2.0 ** np.floor(np.log2(np.sqrt(max(areas))))
    return f"{low:g} to {2 * low:g}"


def _measure_level(
    inspector: Inspector, images: Sequence[_RightImage], disturbance: Disturbance, level: float, seed: int
) -> LevelResult:
    changed: dict[bool, list[tuple[bool, str | None]]] = {False: [], True: []}
    by_size: dict[str, list[tuple[bool, str | None]]] = defaultdict(list)
    qualities: list[Quality] = []
    for number, own in enumerate(images):
        rng = np.random.default_rng((seed, number))  # the same dust and direction at every level of an image
        image = disturbance.apply(own.image, level, rng)
        passes = _passes(inspector, own.sample, image, own.valid)
        defective = bool(own.sample.defective)
        changed[defective].append((passes if defective else not passes, own.unit))
        if own.size_class is not None:
            by_size[own.size_class].append((passes, own.unit))
        qualities.append(_compare(own.image, image))
    sizes = sorted(by_size, key=lambda name: float(name.split()[0]))
    return LevelResult(
        level=level,
        stopped=_rate(changed[False]),
        missed=_rate(changed[True]),
        missed_by_size={name: _estimate(by_size[name]) for name in sizes},
        quality=_medians(qualities),
    )


def _compare(before: Image, after: Image) -> Quality:
    reference = make_thumbnail(before)
    first, second = measure_quality(before, reference), measure_quality(after, reference)
    found = {name: second[name] / first[name] for name in ("brightness", "sharpness") if first[name] > 0}
    if second["confidence"] >= MIN_CONFIDENCE:
        found["shift"] = second["shift"]
    return found


def _medians(rows: Sequence[Quality]) -> Quality:
    names = sorted({name for row in rows for name in row})
    return {name: float(np.median([row[name] for row in rows if name in row])) for name in names}


def _rate(verdicts: Sequence[tuple[bool, str | None]]) -> RateEstimate | None:
    return _estimate(verdicts) if verdicts else None


def _estimate(verdicts: Sequence[tuple[bool, str | None]]) -> RateEstimate:
    """The rate of verdicts that changed, with the unit of each."""
    return estimate_share(np.array([hit for hit, _ in verdicts], np.bool_), [unit for _, unit in verdicts])


def _summarise(disturbance: Disturbance, levels: list[LevelResult], allowed: float) -> Sweep:
    limit = None
    for own in levels:
        if (own.stopped is not None and own.stopped.value > allowed) or (
            own.missed is not None and own.missed.value > 0
        ):
            break
        limit = own.level
    stopped = next((own.level for own in levels if own.stopped is not None and own.stopped.value > 0), None)
    missed = next((own.level for own in levels if own.missed is not None and own.missed.value > 0), None)
    return Sweep(disturbance.name, disturbance.unit, levels, stopped, missed, limit)


def plot_robustness(found: Robustness, t: Translate) -> "Figure":
    """A small plot a disturbance: shares of changed verdicts over its strength, with the limit.

    Raises MissingExtraError where matplotlib is not installed.
    """
    try:
        import matplotlib
        from matplotlib.figure import Figure
    except ModuleNotFoundError as error:
        raise MissingExtraError("matplotlib is not installed; pip install 'blemish[qualify]'") from error
    from blemish.report.plots import DEFECTIVE, GOOD
    from blemish.report.text import use_fonts

    columns = 4
    rows = -(-len(found.sweeps) // columns)
    with matplotlib.rc_context(use_fonts({"font.size": 8})):
        figure = Figure(figsize=(3 * columns, 2.2 * rows), layout="constrained")
        for number, sweep in enumerate(found.sweeps):
            axes = figure.add_subplot(rows, columns, number + 1)
            places = np.arange(len(sweep.levels))
            for name, colour in (("stopped", GOOD), ("missed", DEFECTIVE)):
                rates = [getattr(own, name) for own in sweep.levels]
                if any(rate is None for rate in rates):
                    continue
                axes.fill_between(places, [r.low for r in rates], [r.high for r in rates], color=colour, alpha=0.15)
                label = t("good parts stopped") if name == "stopped" else t("defective parts missed")
                axes.plot(places, [r.value for r in rates], "o-", color=colour, markersize=3, label=label)
            within = [own.level for own in sweep.levels].index(sweep.limit) if sweep.limit is not None else -1
            axes.axvline(within + 0.5, color="grey", linestyle="--", linewidth=1)
            axes.set_xticks(places, [f"{own.level:g}" for own in sweep.levels])
            axes.set(
                title=t(TITLES.get(sweep.name, sweep.name)),
                xlabel=t(sweep.unit),
                ylim=(-0.02, 1.02),
                xlim=(-0.6, len(places) - 0.4),
            )
        handles, labels = figure.axes[0].get_legend_handles_labels()
        figure.legend(handles, labels, loc="outside lower center", ncols=2, frameon=False)
    return figure
