"""From images to inspections: load, prepare, run, stitch, decode, refine, measure, decide.

One image at a time, or a stream of them. Each thread takes a batch of images from file to verdict, so while one waits
for the network or keeps it busy, another reads, prepares and decodes: all of these release Python's lock. Maps of the
image's size are made only where something is to be found in them. An image is freed when it is decided, and the network
runs on fewer tiles at a time when images are large.
"""

import os
import threading
import time
from collections import deque
from collections.abc import Collection, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from itertools import islice
from typing import Any

import numpy as np

from blemish.arrays import FloatArray, Image, Mask
from blemish.dataset.sample import GOOD
from blemish.errors import BlemishError, BundleError, ImageError, InspectionError
from blemish.imaging.prepare import prepare
from blemish.inspection.decide import decide_kept, drop_ignored, has_thresholds
from blemish.inspection.decision_check import gives_regions
from blemish.inspection.decode import DecodedImage, decode
from blemish.inspection.engines import Engine
from blemish.inspection.image_job import ImageInput, ImageJob, ReferenceInput, image_name, load_job
from blemish.inspection.manifest import Decision, Manifest
from blemish.inspection.measure import measure
from blemish.inspection.refine import Refiner
from blemish.inspection.remainder import ScoredImage
from blemish.inspection.result import Inspection, Outputs, Region, Verdict
from blemish.inspection.uncertainty import with_uncertainty

MAX_BATCH_BYTES = 128 * 2**20  # of images that are held for one batch
MAX_THREADS = 64  # of all streams of an inspector


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
    image_bytes: int = 0


class Pipeline:
    """All steps of an inspection, each safe to call from several threads.

    `default_valid` (H, W) are the valid pixels of any image without masks of its own; `sizes` (height, width) the only
    ones that are decided on, if any.
    """

    def __init__(
        self,
        engine: Engine,
        manifest: Manifest,
        batch_size: int,
        default_valid: Mask | None = None,
        refiner: Refiner | None = None,
        sizes: Collection[tuple[int, int]] = (),
    ) -> None:
        self.engine, self.manifest, self.batch_size = engine, manifest, batch_size
        self.default_valid, self.refiner, self.sizes = default_valid, refiner, sizes
        self._own = threading.local()  # of each thread: the network's input, whose memory is used again
        self._threads: tuple[int, ThreadPoolExecutor] | None = None

    def load(
        self,
        image: ImageInput,
        template: ReferenceInput | None = None,
        valid: Mask | None = None,
        ignore: Mask | None = None,
    ) -> ImageJob:
        return load_job(self.manifest, image, valid, ignore, template, self.default_valid, self.sizes)

    def inspect(self, job: ImageJob) -> Inspection:
        """Inspect one loaded image in this thread."""
        for batch in self._batches([job]):
            self._run(batch)
        if job.failure is not None:
            raise job.failure
        return self.finish(job)

    def inspect_batch(
        self,
        images: Iterable[ImageInput],
        template: ReferenceInput | None = None,
        turn: AbstractContextManager[Any] | None = None,
    ) -> list[Inspection | FailedInspection]:
        """Inspections in the order of the images, in this thread; the network runs on whole batches, each in a `turn`
        where one is given."""
        waiting: deque[ImageJob | FailedInspection] = deque()
        results: list[Inspection | FailedInspection] = []
        for batch in self._batches(self._load(image, template) for image in images):
            with turn or nullcontext():
                self._run(batch)
            waiting.extend(batch.begun)
            while waiting and _is_complete(waiting[0]):
                results.append(self._finish_or_fail(waiting.popleft()))
        return results

    def stream(
        self, images: Iterable[ImageInput], workers: int = 1, template: ReferenceInput | None = None
    ) -> Iterator[Inspection | FailedInspection]:
        """Inspections in the order of the images; `workers` batches are read, prepared and decoded besides the one that
        the network runs on. An error of the iterable is raised after the results of the images before it."""
        source, pending = iter(images), deque[Future[list[Inspection | FailedInspection]]]()
        pool, failure, more = self._pool(), None, True
        # A second batch fills the cores while threads of the first wait for one another. With one thread there is no
        # such waiting, and two batches would take two cores.
        turn = threading.BoundedSemaphore(1 if self.engine.threads == 1 else 2)

        def submit() -> None:
            nonlocal failure, more
            while more and len(pending) <= workers:
                batch: list[ImageInput] = []
                try:
                    batch.extend(islice(source, self.batch_size))
                except Exception as error:
                    failure = error
                more = len(batch) == self.batch_size
                if batch:
                    pending.append(pool.submit(self.inspect_batch, batch, template, turn))

        try:
            submit()
            while pending:
                results = pending.popleft().result()
                submit()
                yield from results
            if failure is not None:
                raise failure
        finally:
            for future in pending:
                future.cancel()

    def prepare_tile(self, job: ImageJob, index: int, out: FloatArray | None = None) -> FloatArray:
        """The network's input (channels, height, width) for one tile; a reference image's channels come last.

        With `out` it is written there.
        """
        x0, y0, x1, y1 = job.stitcher.tiles[index]
        spec = self.manifest.input
        out = np.empty(self._input_shape, np.float32) if out is None else out
        try:
            views = [view[y0:y1, x0:x1] for view in (job.view, job.reference) if view is not None]
            for number, view in enumerate(views):
                own = out[number * spec.channels : (number + 1) * spec.channels]
                prepare(view, spec.channels, spec.height, spec.width, spec.fit, own)
            return out
        except ImageError as error:
            raise ImageError(f"{job.source}: {error}" if job.source else str(error)) from error

    def finish(self, job: ImageJob) -> Inspection:
        """Stitch, decode, refine, measure and decide, after the network has run on all tiles."""
        begin = time.perf_counter()
        decision = self.get_decision(job.product)
        prediction = job.stitcher.finish()
        decoded = decode(prediction, self.manifest, decision, job.size, job.valid)
        if self.refiner is not None and decoded.regions and decoded.heat is not None:
            regions = self.refiner.refine(decoded.regions, job.image, decoded.heat.values, job.valid)
            decoded.regions = [region for region in regions if region.area >= decision.min_area_px]
        for region in decoded.regions:
            self._measure(region, job.image)
        kept, ignored = drop_ignored(decoded.regions, decision)
        if ignored:
            scored = ScoredImage(prediction, self.manifest, decision, job.size, job.valid, decoded)
            decoded = scored.without(ignored, kept)
        verdict, reasons, regions = decide_kept(
            decoded.score,
            decoded.label,
            kept,
            decision,
            decoded.defect_scores,
            decoded.class_peaks,
            ignored=len(ignored),
            has_regions=gives_regions(self.manifest, decision),
        )
        if job.misfit is not None:  # the score means nothing
            verdict, reasons = Verdict.REVIEW, [job.misfit]
        job.add_time("decode", time.perf_counter() - begin)
        return Inspection(
            verdict=verdict,
            label=_label(decoded, verdict, decision),
            score=decoded.score,
            regions=regions,
            size=job.size,
            heat_map=decoded.heat,
            valid=job.valid,
            class_scores=decoded.class_scores,
            candidates=decoded.candidates,
            reasons=reasons,
            timings_ms=job.timings_ms,
            source=job.source,
        )

    def get_decision(self, product: str | None) -> Decision:
        """The decision of a product; the common one for None, or for a product without thresholds of its own."""
        own = self.manifest.products.get(product) if product is not None else None
        return self.manifest.decision if own is None else own.decision

    @property
    def _input_shape(self) -> tuple[int, int, int]:
        """Of one tile; a reference image's channels are part of it."""
        spec = self.manifest.input
        return spec.channels * (2 if self.manifest.template else 1), spec.height, spec.width

    def _pool(self) -> ThreadPoolExecutor:
        """The threads of all streams, started as they are needed; of this process, because a fork has none of them."""
        if self._threads is None or self._threads[0] != os.getpid():
            self._threads = os.getpid(), ThreadPoolExecutor(MAX_THREADS, "blemish")
        return self._threads[1]

    def _inputs(self) -> FloatArray:
        """Memory for a batch (N, C, H, W) of this thread, used again for the next one: new memory costs more time than
        it takes to fill it. Rows that are never written take none."""
        if not hasattr(self._own, "inputs"):
            self._own.inputs = np.empty((self.batch_size, *self._input_shape), np.float32)
        inputs: FloatArray = self._own.inputs
        return inputs

    def _load(self, image: ImageInput, template: ReferenceInput | None) -> ImageJob | FailedInspection:
        try:
            return self.load(image, template)
        except Exception as error:  # whatever one image does, the others are inspected
            return _failed(image_name(image), error, of_image=True)

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
        """Batches whose tiles are prepared in the memory of this thread: each is to be run before the next is asked
        for."""
        batch, inputs = _TileBatch(), self._inputs()
        for job in jobs:
            batch.begun.append(job)
            if isinstance(job, FailedInspection):
                continue
            batch.image_bytes += job.image.nbytes
            job.pending = len(job.stitcher.tiles)
            for index in range(job.pending):
                begin = time.perf_counter()
                try:
                    self.prepare_tile(job, index, inputs[len(batch.tiles)])
                except Exception as error:
                    job.failure = _failed(job.name, error).error
                    break
                job.add_time("prepare", time.perf_counter() - begin)
                batch.tiles.append((job, index))
                if len(batch.tiles) == self.batch_size:
                    yield batch
                    batch = _TileBatch()
            if batch.image_bytes > MAX_BATCH_BYTES:
                yield batch
                batch = _TileBatch()
        if batch.begun or batch.tiles:
            yield batch

    def _run(self, batch: _TileBatch) -> None:
        """Run the network on the batch that was just prepared in this thread."""
        if not batch.tiles:
            return
        begin = time.perf_counter()
        outputs = self._run_engine(self._inputs()[: len(batch.tiles)])
        share = (time.perf_counter() - begin) / len(batch.tiles)
        for row, (job, index) in enumerate(batch.tiles):
            job.stitcher.add(index, outputs.row(row))
            job.add_time("network", share)
            job.pending -= 1

    def _run_engine(self, inputs: FloatArray) -> Outputs:
        try:
            return self.engine.run(inputs)
        except BlemishError:
            raise
        except Exception as error:  # engines' errors have no common type
            raise BundleError(f"the graph cannot run on its input: {' '.join(str(error).split())[:200]}") from error

    def _measure(self, region: Region, image: Image) -> None:
        x0, y0, x1, y1 = region.box
        mask = np.ones((y1 - y0, x1 - x0), bool) if region.mask is None else region.mask
        scale, known = self.manifest.scale, self.manifest.measurement_uncertainty
        region.measurements = with_uncertainty(measure(mask, (x0, y0), image, scale), known, scale, region.refined)


def _label(decoded: DecodedImage, verdict: Verdict, decision: Decision) -> str:
    """Good where the verdict is to pass, else the worst finding; without any threshold, the likeliest class."""
    if verdict == Verdict.PASS:
        return GOOD
    if decoded.class_scores and not has_thresholds(decision):
        return max(decoded.class_scores, key=decoded.class_scores.__getitem__)
    return decoded.label


def _is_complete(job: ImageJob | FailedInspection) -> bool:
    """Whether the network has run on all tiles of the job, or never will."""
    return isinstance(job, FailedInspection) or not job.pending or job.failure is not None


def _failed(name: str, error: BaseException, of_image: bool = False) -> FailedInspection:
    """The failure of one image; an unforeseen one gets a message with the image's name.

    `of_image`: it failed while the image was read. What fails later would with any other image.
    """
    if isinstance(error, BlemishError):
        return FailedInspection(name, error)
    kind = ImageError if of_image else InspectionError
    own = kind(f"{name} cannot be inspected: {type(error).__name__}: {' '.join(str(error).split())[:200]}")
    own.__cause__ = error
    return FailedInspection(name, own)
