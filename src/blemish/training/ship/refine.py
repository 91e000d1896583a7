"""Teach the refiner of a bundle on its good images, prove it on others, and ship it only if it is better.

Windows to learn from are synthetic defects on good training images; it is judged by synthetic defects of another
generator on good images held out for tuning, which choose no threshold, and by the annotated defects of validation
images, where there are any. Where fewer than MIN_HELD_OUT good images are held out for tuning, the good validation
images, which may choose thresholds, are added; `Refinement.judged_on` says so.
"""

import logging
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from itertools import chain

import numpy as np

from blemish.arrays import FloatArray, FloatMap, Mask
from blemish.dataset.ground_truth import has_mask, read_defect_mask
from blemish.dataset.sample import Dataset, Sample, sort_by_name
from blemish.dataset.valid_mask import valid_mask
from blemish.errors import BlemishError
from blemish.geometry import mask_bounds
from blemish.imaging.pixel_range import PixelSpec, scale_pixels
from blemish.imaging.prepare import match_channels, resize, to_unit
from blemish.imaging.read import image_header, read_image
from blemish.imaging.tiling import tile_boxes
from blemish.inspection.engines import Engine, open_engine
from blemish.inspection.inspector import Inspector
from blemish.inspection.manifest import Manifest, Refinement
from blemish.inspection.measure import measure_geometry
from blemish.inspection.refine import Refiner, closer_windows, is_thin, pack_memory
from blemish.inspection.refine_window import SIDE, GoodMemory, RefineWindow, find_window, window_inputs
from blemish.inspection.regions import region_mask, shift
from blemish.inspection.result import Inspection, Region
from blemish.training.ship.refine_network import export_refiner, teach_refiner
from blemish.training.ship.synthetic_trials import SyntheticTrial, synthetic_trials

TAUGHT, JUDGED = 360, 120  # synthetic defects that are taught and judged by
MAX_TILES = 1500  # of taught images: an image of many tiles takes long to inspect, so fewer of them are taken
STEPS = 2000  # of teaching; with half of them thin defects stay too wide, and real ones get worse borders
MIN_GOOD, MIN_HELD_OUT = 20, 5  # good images to teach on, and to judge by
MIN_WINDOWS, MIN_JUDGED = 60, 20
MIN_KIND = 4  # defects of a kind, for the kind to be judged by itself
MIN_GAIN = 0.02  # of the mean IoU: the lower end of its interval must reach it
ANNOTATED = "annotated"  # kind of the defects of validation images
MEMORY_SIDE, MEMORY_IMAGES = 256, 100
RESAMPLES = 2000

log = logging.getLogger(__name__)


@dataclass
class RefinementJudgement:
    """Pairs of what coarse and refined regions show of synthetic defects."""

    kinds: list[str] = field(default_factory=list)
    coarse: list[float] = field(default_factory=list)  # IoU
    refined: list[float] = field(default_factory=list)
    width_errors: list[tuple[float, float]] = field(default_factory=list)  # |measured / true - 1|, coarse and refined

    def add(self, kind: str, truth: Mask, coarse: list[Region], refined: list[Region]) -> None:
        """Add a defect (H, W), if any coarse region meets it."""
        before, after = (region_mask(regions, truth.shape) for regions in (coarse, refined))
        if not (before & truth).any():
            return
        self.kinds.append(kind)
        self.coarse.append(mask_iou(before, truth))
        self.refined.append(mask_iou(after, truth))
        width = measure_geometry(truth).mean_width
        measured = [measure_geometry(union).mean_width if union.any() else 0.0 for union in (before, after)]
        self.width_errors.append((abs(measured[0] / width - 1), abs(measured[1] / width - 1)))

    def conclude(self, levels: tuple[float, float], taught: int, seed: int) -> Refinement:
        """What ships: the refiner, if it is surely better by a margin over all defects, and of no kind surely worse."""
        if len(self.kinds) < MIN_JUDGED:
            reason = f"only {len(self.kinds)} of the synthetic defects to judge it by were detected"
            return Refinement(shipped=False, reason=reason, levels=levels, taught=taught, judged=len(self.kinds))
        coarse, refined = np.array(self.coarse), np.array(self.refined)
        gains = refined - coarse
        low, high = _interval(gains, seed)
        by_kind = {
            kind: (float(coarse[own].mean()), float(refined[own].mean()))
            for kind in sorted(set(self.kinds))
            if (own := np.array(self.kinds) == kind).sum() >= MIN_KIND
        }
        worse = [kind for kind in by_kind if _interval(gains[np.array(self.kinds) == kind], seed)[1] < 0]
        widths = np.median(np.array(self.width_errors), axis=0)
        if low < MIN_GAIN:
            change = f"changes by {low:+.2f} to {high:+.2f}, not surely by {MIN_GAIN:+.2f}"
            reason = f"the mean IoU with synthetic defects {change}"
        elif worse:
            reason = f"regions of synthetic defects of the kind {', '.join(worse)} get worse"
        elif widths[1] > widths[0]:
            reason = "widths of synthetic defects get less true"
        else:
            reason = f"the mean IoU with synthetic defects rises by {low:.2f} to {high:.2f}"
        return Refinement(
            shipped=low >= MIN_GAIN and not worse and bool(widths[1] <= widths[0]),
            reason=reason,
            levels=levels,
            closer=True,
            taught=taught,
            judged=len(gains),
            coarse_iou=float(coarse.mean()),
            refined_iou=float(refined.mean()),
            gain=(low, high),
            by_kind=by_kind,
            coarse_width_error=float(widths[0]),
            refined_width_error=float(widths[1]),
        )


def make_refiner(inspector: Inspector, dataset: Dataset, seed: int) -> tuple[Refinement | None, dict[str, bytes]]:
    """The refinement of a calibrated bundle and its members; None where its regions are not those of an anomaly map."""
    manifest = inspector.manifest
    levels = map_levels(manifest)
    if levels is None:
        return None, {}
    training, held_out = _good_images(dataset)
    if len(training) < MIN_GOOD or len(held_out) < MIN_HELD_OUT:
        reason = (
            f"{len(training)} good images to teach it and {len(held_out)} to judge it by are too few; "
            f"{MIN_GOOD} and {MIN_HELD_OUT} are needed"
        )
        return Refinement(shipped=False, reason=reason, levels=levels), {}
    log.info(f"teaching the refinement of regions on synthetic defects on {len(training)} good images")
    memory = remember_good(training, manifest.input.channels, manifest.input.pixels)
    order = np.random.default_rng(seed).permutation(len(training))
    count = max(MIN_WINDOWS, min(TAUGHT, MAX_TILES // _tiles_of(training[0], manifest)))
    trials = synthetic_trials([training[i] for i in order], count, seed, "taught", manifest.input.pixels)
    inputs, masks, regions = _taught_windows(_inspect(inspector, trials), memory, levels)
    if regions < MIN_WINDOWS:
        reason = f"only {regions} regions of the synthetic defects to teach it with were detected"
        return Refinement(shipped=False, reason=reason, levels=levels, taught=regions), {}
    graph = export_refiner(teach_refiner(inputs, masks, STEPS, seed))
    judged = max(MIN_WINDOWS, min(JUDGED, count))
    trials = chain(
        synthetic_trials(held_out, judged, seed, "judge", manifest.input.pixels), annotated_trials(dataset, judged)
    )
    refinement = judge_refiner(inspector, open_engine(graph), memory, levels, trials, regions)
    refinement = refinement.model_copy(update={"judged_on": dict(Counter(str(s.split) for s in held_out))})
    if not refinement.shipped:
        return refinement, {}
    return refinement, {refinement.graph: graph, refinement.memory: pack_memory(memory)}


def annotated_trials(dataset: Dataset, count: int) -> Iterator[SyntheticTrial]:
    """At most `count` defective validation images with the masks of their own defects, as one kind."""
    annotated = [s for s in dataset.split("val").samples if s.defective and has_mask(s)]
    for sample in annotated[:count]:
        image = read_image(sample.image)
        size = (image.shape[0], image.shape[1])
        try:
            mask = read_defect_mask(sample, size)
        except BlemishError:  # calibration has reported it
            continue
        yield SyntheticTrial(image, mask, ANNOTATED, valid_mask(sample, size), sample)


def judge_refiner(
    inspector: Inspector,
    engine: Engine,
    memory: GoodMemory,
    levels: tuple[float, float],
    trials: Iterable[SyntheticTrial],
    taught: int,
) -> Refinement:
    """Judge a refiner by trials; `inspector` has none."""
    refiner, judgement = Refiner(engine, memory, levels), RefinementJudgement()
    for trial, result in _inspect(inspector, trials):
        assert result.heat_map is not None
        refined = refiner.refine(result.regions, trial.image, result.heat_map, result.valid)
        judgement.add(trial.kind, trial.mask, result.regions, refined)
    return judgement.conclude(levels, taught, seed=0)


def map_levels(manifest: Manifest) -> tuple[float, float] | None:
    """The thresholds of the regions of an anomaly map; None where regions come from something else, or are none."""
    outputs, decision = set(manifest.outputs), manifest.decision
    if "anomaly_map" not in outputs or outputs & {"mask_scores", "boxes"} or manifest.template:
        return None
    if decision.map_high is None:
        return None
    low = decision.map_high if decision.map_low is None else min(decision.map_low, decision.map_high)
    return float(low), float(max(decision.map_high, low + 1e-6 * max(abs(low), 1.0)))


def remember_good(samples: list[Sample], channels: int, pixels: PixelSpec | None = None) -> GoodMemory:
    """Mean and standard deviation of good images, at most MEMORY_SIDE px wide."""
    count = min(len(samples), MEMORY_IMAGES)
    total = square = np.zeros((MEMORY_SIDE, MEMORY_SIDE, channels))
    for i in range(count):
        image = match_channels(scale_pixels(read_image(samples[i * len(samples) // count].image), pixels), channels)
        small = to_unit(resize(image, MEMORY_SIDE, MEMORY_SIDE)).astype(np.float64)
        total, square = total + small, square + small**2
    mean = total / count
    deviation = np.sqrt(np.maximum(square / count - mean**2, 0))
    return GoodMemory(np.concatenate([mean, deviation], axis=2).astype(np.float16).astype(np.float32))


def mask_iou(one: Mask, other: Mask) -> float:
    return float((one & other).sum() / max(int((one | other).sum()), 1))


def _interval(values: FloatArray, seed: int) -> tuple[float, float]:
    """95 % bootstrap interval of the mean."""
    drawn = np.random.default_rng(seed).integers(len(values), size=(RESAMPLES, len(values)))
    low, high = np.quantile(values[drawn].mean(axis=1), (0.025, 0.975))
    return float(low), float(high)


def _good_images(dataset: Dataset) -> tuple[list[Sample], list[Sample]]:
    """Good images to teach on, those of training, and to judge by: those held out for tuning; where they are fewer than
    MIN_HELD_OUT, those of validation too."""
    good = sort_by_name(s for s in dataset.samples if s.defective is False)
    training, held_out = ([s for s in good if s.split == name] for name in ("train", "tuning"))
    if len(held_out) < MIN_HELD_OUT:
        held_out += [s for s in good if s.split == "val"]
    return training, held_out


def _inspect(inspector: Inspector, trials: Iterable[SyntheticTrial]) -> Iterator[tuple[SyntheticTrial, Inspection]]:
    for trial in trials:
        yield trial, inspector.inspect(trial.image, valid=trial.valid)


def _taught_windows(
    inspected: Iterable[tuple[SyntheticTrial, Inspection]], memory: GoodMemory, levels: tuple[float, float]
) -> tuple[FloatArray, FloatArray, int]:
    """Inputs and coverage of the defects, of a window around each region and of the closer ones of thin defects; and
    how many regions there were."""
    inputs: list[FloatMap] = []
    masks: list[FloatMap] = []
    regions = 0
    for trial, result in inspected:
        assert result.heat_map is not None
        regions += len(result.regions)
        for region in result.regions:
            first = find_window(region.box, trial.mask.shape)
            for window in [first, *_closer_windows(trial, first)]:
                inputs.append(window_inputs(trial.image, result.heat_map, region, window, memory, levels))
                covered = window.crop(trial.mask, mirror=False).astype(np.float32)
                masks.append(resize(covered[..., None], *inputs[-1].shape[1:])[..., 0])
    return np.array(inputs, np.float32), np.array(masks, np.float32), regions


def _closer_windows(trial: SyntheticTrial, window: RefineWindow) -> list[RefineWindow]:
    true, step = _true_region(trial, window), window.side / SIDE
    return [closer for closer, _ in closer_windows(true, step, trial.mask.shape)] if is_thin(true, step) else []


def _true_region(trial: SyntheticTrial, window: RefineWindow) -> Region:
    """The defect of a trial within a window, as a region; empty where none of it is there."""
    x, y, right, bottom = window.within(trial.mask.shape)
    mask = trial.mask[y:bottom, x:right]
    box = x0, y0, x1, y1 = mask_bounds(mask) or (0, 0, 0, 0)
    return shift(Region("defect", 0.0, box, mask[y0:y1, x0:x1]), x, y)


def _tiles_of(sample: Sample, manifest: Manifest) -> int:
    """How many tiles the inspector cuts an image into, at most."""
    tiling = manifest.tiling
    if tiling is None:
        return 1
    header = image_header(str(sample.image))
    return len(tile_boxes(header.height, header.width, tiling.height, tiling.width, tiling.overlap))
