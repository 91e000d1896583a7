"""From images to inspections: load, prepare, run, stitch, decode, refine, measure, decide.

One image at a time, or a stream of them.
In a stream, the next batch is read and prepared, and the last one decoded, while the network runs. Reading, preparing,
running and decoding are calls that release Python's lock, so threads overlap. At most two batches and the results of
two are in memory at a time, and a batch is closed early when its images are large.
"""

import time
from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from itertools import islice, takewhile

import numpy as np

from blemish.arrays import FloatArray, Image, Mask
from blemish.dataset.sample import GOOD
from blemish.errors import BlemishError, BundleError, ImageError
from blemish.imaging.prepare import prepare
from blemish.inspection.decide import decide, has_thresholds
from blemish.inspection.decode import DecodedImage, decode
from blemish.inspection.engines import Engine
from blemish.inspection.image_job import ImageInput, ImageJob, ReferenceInput, image_name, load_job
from blemish.inspection.manifest import Decision, Manifest
from blemish.inspection.measure import measure
from blemish.inspection.refine import Refiner
from blemish.inspection.result import Inspection, Region, Verdict
from blemish.inspection.stitching import defect_names
from blemish.inspection.uncertainty import with_uncertainty

MAX_BATCH_BYTES = 128 * 2**20  # of images that are held for one batch


@dataclass(frozen=True, slots=True)
class FailedInspection:
    """Returned instead of an inspection where an image could not be inspected."""

    source: str
    error: BlemishError

    @property
    def message(self) -> str:
        return str(self.error)


@dataclass(slots=True)
class _TileBatch:
    """Tiles for one run of the network, and the images that begin with them."""

    begun: list[ImageJob | FailedInspection] = field(default_factory=list)
    tiles: list[tuple[ImageJob, int]] = field(default_factory=list)
    inputs: list[FloatArray] = field(default_factory=list)
    image_bytes: int = 0


@dataclass(frozen=True, slots=True)
class Pipeline:
    """All steps of an inspection, each safe to call from several threads."""

    engine: Engine
    manifest: Manifest
    batch_size: int
    default_valid: Mask | None = None  # (H, W), of any image without masks of its own
    refiner: Refiner | None = None

    def load(
        self,
        image: ImageInput,
        template: ReferenceInput | None = None,
        valid: Mask | None = None,
        ignore: Mask | None = None,
    ) -> ImageJob:
        return load_job(self.manifest, image, valid, ignore, template, self.default_valid)

    def inspect(self, job: ImageJob) -> Inspection:
        """Inspect one loaded image in this thread."""
        for batch in self._batches([job]):
            self._run(batch)
        if job.failure is not None:
            raise job.failure
        return self.finish(job)

    def inspect_batch(self, images: Iterable[ImageInput]) -> list[Inspection | FailedInspection]:
        """Inspections in the order of the images, in this thread; the network runs on whole batches."""
        jobs = [self._load(image, None) for image in images]
        for batch in self._batches(jobs):
            self._run(batch)
        return [self._finish_or_fail(job) for job in jobs]

    def stream(
        self, images: Iterable[ImageInput], workers: int = 1, template: ReferenceInput | None = None
    ) -> Iterator[Inspection | FailedInspection]:
        """Inspections in the order of the images; `workers` threads read images."""
        readers = ThreadPoolExecutor(max(1, workers), "blemish-read")
        preparer = ThreadPoolExecutor(1, "blemish-batch")
        decoder = ThreadPoolExecutor(1, "blemish-decode")
        try:
            batches = self._batches(self._load_all(images, template, readers, workers))
            following = preparer.submit(next, batches, None)
            waiting: deque[ImageJob | FailedInspection] = deque()
            ready = 0
            while (batch := following.result()) is not None:
                following = preparer.submit(next, batches, None)
                waiting.extend(batch.begun)
                for job in self._run(batch):
                    job.result = decoder.submit(self.finish, job)
                # Jobs that were complete before this run have been decoded in the meantime.
                yield from _take(waiting, ready)
                ready = sum(1 for _ in takewhile(_is_complete, waiting))
            yield from _take(waiting, len(waiting))
        finally:
            for pool in (readers, preparer, decoder):
                pool.shutdown(wait=False, cancel_futures=True)

    def prepare_tile(self, job: ImageJob, index: int) -> FloatArray:
        """The network's input (channels, height, width) for one tile; a reference image's channels come last."""
        x0, y0, x1, y1 = job.stitcher.tiles[index]
        spec = self.manifest.input
        try:
            views = [view[y0:y1, x0:x1] for view in (job.view, job.reference) if view is not None]
            inputs = [prepare(view, spec.channels, spec.height, spec.width, spec.fit) for view in views]
            return inputs[0] if len(inputs) == 1 else np.concatenate(inputs)
        except ImageError as error:
            raise ImageError(f"{job.source}: {error}" if job.source else str(error)) from error

    def finish(self, job: ImageJob) -> Inspection:
        """Stitch, decode, refine, measure and decide, after the network has run on all tiles."""
        begin = time.perf_counter()
        decision = self.get_decision(job.product)
        decoded = decode(job.stitcher.finish(), self.manifest, decision, job.size, job.valid)
        if self.refiner is not None and decoded.regions and decoded.heat_map is not None:
            regions = self.refiner.refine(decoded.regions, job.image, decoded.heat_map, job.valid)
            decoded.regions = [region for region in regions if region.area >= decision.min_area_px]
        for region in decoded.regions:
            self._measure(region, job.image)
        class_scores = decoded.class_scores
        defects = defect_names(self.manifest.classes)
        defect_scores = None if class_scores is None else {name: class_scores[name] for name in defects}
        verdict, reasons, regions = decide(decoded.score, decoded.label, decoded.regions, decision, defect_scores)
        if job.misfit is not None:  # the score means nothing
            verdict, reasons = Verdict.REVIEW, [job.misfit]
        job.add_time("decode", time.perf_counter() - begin)
        return Inspection(
            verdict=verdict,
            label=_label(decoded, verdict, decision),
            score=decoded.score,
            regions=regions,
            size=job.size,
            heat_map=decoded.heat_map,
            valid=job.valid,
            class_scores=class_scores,
            candidates=decoded.candidates,
            reasons=reasons,
            timings_ms=job.timings_ms,
            source=job.source,
        )

    def get_decision(self, product: str | None) -> Decision:
        """The decision of a product; the common one for None, or for a product without thresholds of its own."""
        own = self.manifest.products.get(product) if product is not None else None
        return self.manifest.decision if own is None else own.decision

    def _load_all(
        self, images: Iterable[ImageInput], template: ReferenceInput | None, readers: ThreadPoolExecutor, workers: int
    ) -> Iterator[ImageJob | FailedInspection]:
        """Loaded images in order, read by a pool that is a few images ahead."""

        if workers <= 1:
            yield from (self._load(image, template) for image in images)
            return
        source = iter(images)
        pending = deque(readers.submit(self._load, image, template) for image in islice(source, workers))
        while pending:
            yield pending.popleft().result()
            pending.extend(readers.submit(self._load, image, template) for image in islice(source, 1))

    def _load(self, image: ImageInput, template: ReferenceInput | None) -> ImageJob | FailedInspection:
        try:
            return self.load(image, template)
        except Exception as error:  # whatever one image does, the others are inspected
            return _failed(image_name(image), error)

    def _finish_or_fail(self, job: ImageJob | FailedInspection) -> Inspection | FailedInspection:
        if isinstance(job, FailedInspection):
            return job
        if job.failure is not None:
            return FailedInspection(job.name, job.failure)
        try:
            return self.finish(job)
        except Exception as error:
            return _failed(job.name, error)

    def _batches(self, jobs: Iterable[ImageJob | FailedInspection]) -> Iterator[_TileBatch]:
        batch = _TileBatch()
        for job in jobs:
            batch.begun.append(job)
            if isinstance(job, FailedInspection):
                continue
            batch.image_bytes += job.image.nbytes
            job.pending = len(job.stitcher.tiles)
            for index in range(job.pending):
                begin = time.perf_counter()
                try:
                    tile = self.prepare_tile(job, index)
                except Exception as error:
                    job.failure = _failed(job.name, error).error
                    break
                job.add_time("prepare", time.perf_counter() - begin)
                batch.inputs.append(tile)
                batch.tiles.append((job, index))
                if len(batch.inputs) == self.batch_size:
                    yield batch
                    batch = _TileBatch()
            if batch.image_bytes > MAX_BATCH_BYTES:
                yield batch
                batch = _TileBatch()
        if batch.begun or batch.tiles:
            yield batch

    def _run(self, batch: _TileBatch) -> list[ImageJob]:
        """Run the network on a batch; the jobs whose last tile was in it."""
        if not batch.inputs:
            return []
        begin = time.perf_counter()
        try:
            outputs = self.engine.run(np.stack(batch.inputs))
        except BlemishError:
            raise
        except Exception as error:  # engines' errors have no common type
            raise BundleError(f"the graph cannot run on its input: {' '.join(str(error).split())[:200]}") from error
        share = (time.perf_counter() - begin) / len(batch.inputs)
        complete = []
        for row, (job, index) in enumerate(batch.tiles):
            job.stitcher.add(index, outputs.row(row))
            job.add_time("network", share)
            job.pending -= 1
            if not job.pending:
                complete.append(job)
        return complete

    def _measure(self, region: Region, image: Image) -> None:
        x0, y0, x1, y1 = region.box
        mask = np.ones((y1 - y0, x1 - x0), bool) if region.mask is None else region.mask
        scale, known = self.manifest.scale, self.manifest.measurement_uncertainty
        region.measurements = with_uncertainty(measure(mask, (x0, y0), image, scale), known, scale)


def _label(decoded: DecodedImage, verdict: Verdict, decision: Decision) -> str:
    """Good where the verdict is to pass, else the worst finding; without any threshold, the likeliest class."""
    if verdict == Verdict.PASS:
        return GOOD
    if decoded.class_scores and not has_thresholds(decision):
        return max(decoded.class_scores, key=decoded.class_scores.__getitem__)
    return decoded.label


def _is_complete(job: ImageJob | FailedInspection) -> bool:
    """Whether the network has run on all tiles of the job."""
    return isinstance(job, FailedInspection) or job.result is not None or job.failure is not None


def _take(waiting: deque[ImageJob | FailedInspection], count: int) -> Iterator[Inspection | FailedInspection]:
    for _ in range(count):
        job = waiting.popleft()
        if isinstance(job, FailedInspection):
            yield job
        elif job.failure is not None:
            yield FailedInspection(job.name, job.failure)
        else:
            assert job.result is not None
            failure = job.result.exception()
            yield job.result.result() if failure is None else _failed(job.name, failure)


def _failed(name: str, error: BaseException) -> FailedInspection:
    """The failure of one image; an unforeseen one gets a message with the image's name."""
    if isinstance(error, BlemishError):
        return FailedInspection(name, error)
    own = ImageError(f"{name} cannot be inspected: {type(error).__name__}: {' '.join(str(error).split())[:200]}")
    own.__cause__ = error
    return FailedInspection(name, own)
