"""How small a defect a bundle finds: synthetic defects of swept size and contrast on good images, hit or missed."""

import tempfile
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import chain
from pathlib import Path

import numpy as np

from blemish.arrays import Image, Mask, PixelBox
from blemish.dataset.sample import Dataset, Sample, sort_by_name
from blemish.dataset.write import dataset_sha256
from blemish.errors import DataError, OptionError, unknown
from blemish.evaluation.intervals import RateEstimate, estimate_rate
from blemish.evaluation.pod import ADVISED_TRIALS, PodFit, PodProblem, fit_pod
from blemish.evaluation.pod_result import PodCurve, PodResult, PodTrial
from blemish.evaluation.units import estimate_share, find_units
from blemish.geometry import mask_bounds
from blemish.imaging.pixel_range import PixelSpec, restore_pixels, scale_pixels
from blemish.imaging.prepare import to_unit
from blemish.imaging.read import read_image, write_image
from blemish.inspection.bundle import describe_bundle
from blemish.inspection.inspector import Inspector
from blemish.inspection.pipeline import FailedInspection
from blemish.inspection.regions import region_mask
from blemish.inspection.result import Inspection, Verdict
from blemish.inspection.seen_images import count_seen
from blemish.synthesis.apply import used_scale
from blemish.synthesis.scene import part_extent
from blemish.synthesis.sized_defect import SWEPT_KINDS, draw_sized_defect
from blemish.translation import Message

DEFAULT_KINDS = ("scratch", "pit", "stain")
DEFAULT_CONTRASTS = (0.15, 0.3, 0.6)
# Smallest length in px, and largest as a share of the shorter side of the inspected pixels.
SIZE_RANGES = {"scratch": (4, 0.5), "crack": (4, 0.5), "pit": (3, 0.15), "stain": (4, 0.4), "dent": (4, 0.3)}
ATTEMPTS = 8  # images tried for one defect
WIDENING = 1.5  # of the range of sizes that both are found and missed, for the second half of the trials
ADVISED_SURFACES = 20  # good images; with fewer the same few surfaces return again and again

OnPodTrial = Callable[[PodTrial, Image], None]


@dataclass(frozen=True, slots=True)
class _Surface:
    """A good image that passes, and the pixels (H, W) that are inspected; None: all."""

    sample: Sample
    valid: Mask | None
    extent: float  # shorter side of the inspected pixels


@dataclass(frozen=True, slots=True)
class _Planned:
    """One trial to come: which curve, and the size wanted in px."""

    kind: str
    strength: float
    size: float
    seed: tuple[int, ...]


def pod(
    inspector: Inspector,
    dataset: Dataset,
    *,
    kinds: Sequence[str] = DEFAULT_KINDS,
    contrasts: Sequence[float] = DEFAULT_CONTRASTS,
    sizes: tuple[float, float] | None = None,
    trials: int = 60,
    seed: int = 0,
    on_inspection: Callable[[], None] = lambda: None,
    on_trial: OnPodTrial | None = None,
) -> PodResult:
    """Probability of detection of synthetic defects by size, on the good images of a dataset (MIL-HDBK-1823A).

    For each of `kinds` and each of `contrasts` (0 to 1, a share of the surface's brightness) `trials` defects are
    drawn, lengths spread evenly in their logarithm: half over `sizes` (smallest and largest length in px; by default a
    range that depends on the kind), half where the first ones are found as well as missed. `on_inspection` is called
    after each inspection, `on_trial` with each trial and its image (H, W, C). An interruption (Ctrl-C) ends the trials,
    and the result is of those done (`complete` is False). Raises OptionError, or DataError where no good image passes
    untouched.
    """
    _check_options(kinds, contrasts, sizes, trials)
    unreadable: list[str] = []
    good = sort_by_name(sample for sample in dataset.samples if sample.defective is False)
    surfaces, alarms = _untouched(inspector, good, unreadable, on_inspection)
    ranges = {kind: sizes or _size_range(kind, surfaces) for kind in kinds}
    combinations = [(kind, strength) for kind in kinds for strength in contrasts]
    sweep = _Sweep(inspector, surfaces, unreadable, on_inspection, on_trial)
    complete = True
    try:
        _run_trials(sweep, combinations, ranges, trials, seed)
    except KeyboardInterrupt:
        complete = False
    if not sweep.trials:
        if not complete:
            raise KeyboardInterrupt
        raise DataError("none of the synthetic defects fits on the good images; give smaller ones with sizes")
    manifest = inspector.manifest
    scale, seen = manifest.scale, count_seen(inspector.bundle, (sample.image for sample in good))
    return PodResult(
        curves=[_make_curve(*own, sweep) for own in combinations],
        false_alarms=alarms,
        surfaces=len(surfaces),
        trials=sweep.trials,
        warnings=[*_doubts(dataset, seen, len(good)), *_warnings(sweep, complete)],
        px_per_mm=None if scale is None else (scale.x, scale.y),
        bundle=describe_bundle(inspector.bundle.path, manifest),
        data={
            "root": str(dataset.root),
            "format": dataset.format,
            "good": len(good),
            "unreadable": unreadable,
            "sha256": dataset_sha256(dataset.with_samples(good)),
            "seen": seen,
        },
        seed=seed,
        complete=complete,
    )


def _check_options(
    kinds: Sequence[str], contrasts: Sequence[float], sizes: tuple[float, float] | None, trials: int
) -> None:
    if not kinds or not contrasts:
        raise OptionError("name at least one kind of defect and one contrast")
    for kind in kinds:
        if kind not in SWEPT_KINDS:
            raise OptionError(unknown("kind", kind, SWEPT_KINDS))
    if len(set(kinds)) < len(kinds) or len(set(contrasts)) < len(contrasts):
        raise OptionError("name every kind and every contrast once")
    if not all(0 < value <= 1 for value in contrasts):
        raise OptionError("contrasts are shares of the brightness, above 0 and at most 1")
    if sizes is not None and not 2 <= sizes[0] < sizes[1] < float("inf"):
        raise OptionError("sizes are a smallest length of at least 2 px and a larger one")
    if trials < 2:
        raise OptionError(f"at least 2 trials are needed, not {trials}; {ADVISED_TRIALS} are advised")


def _untouched(
    inspector: Inspector, good: Sequence[Sample], unreadable: list[str], count: Callable[[], None]
) -> tuple[list[_Surface], RateEstimate]:
    """The good images that pass as they are, and the rate of those that do not."""
    if not good:
        raise DataError("there are no good images to draw defects on; label some 'good'")
    surfaces: list[_Surface] = []
    stopped: list[Inspection] = []
    inspected: list[tuple[Sample, bool]] = []  # whether it did not pass
    for sample, result in zip(good, inspector.inspect(good, on_error="report"), strict=True):
        count()
        if isinstance(result, FailedInspection):
            unreadable.append(result.message)
            continue
        inspected.append((sample, result.verdict != Verdict.PASS))
        if result.verdict != Verdict.PASS:
            stopped.append(result)
        else:
            valid = result.valid
            extent = float(min(result.size)) if valid is None else part_extent(valid)
            surfaces.append(_Surface(sample, valid, extent))
    if not surfaces and not stopped:
        raise DataError(f"none of the {len(good)} good images could be inspected: {unreadable[0]}")
    if not surfaces:
        reason = f" ({stopped[0].reasons[0]})" if stopped[0].reasons else ""
        raise DataError(f"none of the {len(stopped)} good images passes as it is{reason}: there is nothing to miss")
    flags = np.array([alarm for _, alarm in inspected], np.bool_)
    return surfaces, estimate_share(flags, find_units([sample for sample, _ in inspected]))


def _size_range(kind: str, surfaces: Sequence[_Surface]) -> tuple[float, float]:
    low, share = SIZE_RANGES[kind]
    return float(low), max(2.0 * low, share * float(np.median([surface.extent for surface in surfaces])))


def _run_trials(
    sweep: "_Sweep",
    combinations: Sequence[tuple[str, float]],
    ranges: Mapping[str, tuple[float, float]],
    trials: int,
    seed: int,
) -> None:
    """Half of each curve's trials over its range of sizes, the others where those were both found and missed."""
    first = [
        _plan(kind, strength, ranges[kind], (trials + 1) // 2, (seed, number, 0))
        for number, (kind, strength) in enumerate(combinations)
    ]
    sweep.run(_interleave(first))
    second = [
        _plan(kind, strength, _narrow(sweep.trials_of(kind, strength), ranges[kind]), trials // 2, (seed, number, 1))
        for number, (kind, strength) in enumerate(combinations)
    ]
    sweep.run(_interleave(second))


def _plan(kind: str, strength: float, sizes: tuple[float, float], count: int, seed: tuple[int, ...]) -> list[_Planned]:
    """Trials whose sizes are spread evenly in their logarithm."""
    every = np.geomspace(*sizes, count).tolist()
    return [_Planned(kind, strength, size, (*seed, number)) for number, size in enumerate(every)]


def _interleave(curves: Sequence[list[_Planned]]) -> list[_Planned]:
    """The trials in random order, so that after an interruption every curve has about equally many."""
    planned = list(chain.from_iterable(curves))
    order = np.random.default_rng(len(planned) * len(curves)).permutation(len(planned))
    return [planned[int(i)] for i in order]


def _narrow(trials: Sequence[PodTrial], sizes: tuple[float, float]) -> tuple[float, float]:
    """The sizes of which some are found and some missed, a little widened, within the range as a whole."""
    found = [t.size_px for t in trials if t.hit]
    missed = [t.size_px for t in trials if not t.hit]
    ends = (min(found, default=sizes[1]), max(missed, default=sizes[0]))
    low, high = (float(np.clip(own, *sizes)) for own in (min(ends) / WIDENING, max(ends) * WIDENING))
    return (low, high) if low < high else sizes


@dataclass
class _Sweep:
    """Draw the planned defects, inspect the images as files, as any other image is, and keep what comes out."""

    inspector: Inspector
    surfaces: Sequence[_Surface]
    unreadable: list[str]
    on_inspection: Callable[[], None]
    on_trial: OnPodTrial | None
    trials: list[PodTrial] = field(default_factory=list)
    not_drawn: list[_Planned] = field(default_factory=list)

    def trials_of(self, kind: str, strength: float) -> list[PodTrial]:
        return [trial for trial in self.trials if (trial.kind, trial.strength) == (kind, strength)]

    def run(self, planned: Sequence[_Planned]) -> None:
        with tempfile.TemporaryDirectory(prefix="blemish-pod-", ignore_cleanup_errors=True) as folder:
            waiting: deque[tuple[PodTrial, Mask, Image, Path]] = deque()

            def images() -> Iterator[Sample]:
                for number, own in enumerate(planned):
                    made = self._draw(own)
                    if made is None:
                        self.not_drawn.append(own)
                        self.on_inspection()
                        continue
                    pixels, trial, mask, sample = made
                    path = Path(folder) / f"{number}{_suffix(pixels)}"
                    write_image(path, pixels)
                    waiting.append((trial, mask, pixels, path))
                    yield replace(sample, image=path)

            for result in self.inspector.inspect(images(), on_error="report"):
                trial, mask, pixels, path = waiting.popleft()
                path.unlink()
                self.on_inspection()
                if isinstance(result, FailedInspection):
                    self.unreadable.append(f"{trial.image} with a {trial.kind}: {result.message}")
                    continue
                hit = result.verdict != Verdict.PASS
                located = _touches(result, trial.box, mask) if result.regions or result.heat_map is not None else None
                trial = replace(trial, hit=hit, located=located, score=float(result.score))
                self.trials.append(trial)
                if self.on_trial is not None:
                    self.on_trial(trial, pixels)

    def _draw(self, planned: _Planned) -> tuple[Image, PodTrial, Mask, Sample] | None:
        """The image with the defect, its trial, its mask within the trial's box, and the good image."""
        for attempt in range(ATTEMPTS):
            seed = (*planned.seed, attempt)
            surface = self.surfaces[int(np.random.default_rng(seed).integers(len(self.surfaces)))]
            pixels = read_image(surface.sample.image)
            spec = self.inspector.manifest.input.pixels
            drawn = _draw(pixels, planned.kind, planned.size, planned.strength, seed, surface.valid, spec)
            if drawn is None:
                continue
            image, mask, size, width, contrast = drawn
            box = x0, y0, x1, y1 = mask_bounds(mask) or (0, 0, 0, 0)
            trial = PodTrial(
                kind=planned.kind,
                strength=planned.strength,
                size_px=size,
                width_px=width,
                contrast=contrast,
                image=str(surface.sample.image),
                seed=seed,
                box=box,
                hit=False,
                located=None,
                score=float("nan"),
            )
            return image, trial, mask[y0:y1, x0:x1], surface.sample
        return None


def _draw(
    pixels: Image,
    kind: str,
    size: float,
    strength: float,
    seed: tuple[int, ...],
    valid: Mask | None,
    spec: PixelSpec | None,
) -> tuple[Image, Mask, float, float, float] | None:
    """Image with a defect in the type of `pixels`, its mask, length, width and contrast."""
    image = to_unit(scale_pixels(pixels, spec))
    level = used_scale(image) if pixels.dtype == np.uint16 else 1.0
    drawn = draw_sized_defect(image, kind, size, strength, seed, valid=valid, level=level)
    if drawn is None:
        return None
    return restore_pixels(drawn.image, pixels, spec), drawn.mask, drawn.length, drawn.width, drawn.contrast


def _suffix(pixels: Image) -> str:
    return ".png" if pixels.dtype.kind == "u" and pixels.shape[2] in (1, 3) else ".tif"


def _touches(result: Inspection, box: PixelBox, mask: Mask) -> bool:
    """Whether a region of the result has a pixel of the mask, which fills the box."""
    x0, y0, x1, y1 = box
    return bool((region_mask(result.regions, result.size)[y0:y1, x0:x1] & mask).any())


def _make_curve(kind: str, strength: float, sweep: _Sweep) -> PodCurve:
    own = sweep.trials_of(kind, strength)
    fit = (
        fit_pod(np.array([trial.size_px for trial in own]), np.array([trial.hit for trial in own]))
        if own
        else PodFit(0, 0, 0.0, 0.0, None, None, (PodProblem.TOO_FEW,))
    )
    located = [trial.located for trial in own if trial.hit and trial.located is not None]
    return PodCurve(
        kind=kind,
        strength=strength,
        contrast=float(np.median([trial.contrast for trial in own])) if own else None,
        fit=fit,
        located=estimate_rate(sum(located), len(located)) if located else None,
        not_drawn=sum((planned.kind, planned.strength) == (kind, strength) for planned in sweep.not_drawn),
    )


def _doubts(dataset: Dataset, seen: dict[str, int] | None, good: int) -> list[Message]:
    """Why the images may pass more easily than new ones: what was said when they were read, or that they were seen."""
    count = sum((seen or {}).values())
    text = (
        "the bundle was trained, tuned or calibrated on {count} of the {good} good images: the false alarms and the "
        "curves are not those of new images"
    )
    return [*map(Message, dataset.doubts)] or ([Message(text, {"count": count, "good": good})] if count else [])


def _warnings(sweep: _Sweep, complete: bool) -> list[Message]:
    warnings = []
    if not complete:
        text = "interrupted after {trials} trials: the curves rest on fewer trials than planned"
        warnings.append(Message(text, {"trials": len(sweep.trials)}))
    if len(sweep.surfaces) < ADVISED_SURFACES:
        text = "only {images} good images carry all defects; with fewer than {advised} the intervals are too narrow"
        warnings.append(Message(text, {"images": len(sweep.surfaces), "advised": ADVISED_SURFACES}))
    if sweep.not_drawn:
        text = "{count} defects fitted on no image and are left out"
        warnings.append(Message(text, {"count": len(sweep.not_drawn)}))
    return warnings
