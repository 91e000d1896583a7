"""The one way from an image to its inspection: read, locate, tile, run, stitch, decode, measure, decide."""

import time
from collections.abc import Iterable, Iterator
from functools import partial
from pathlib import Path
from typing import Any, Literal, overload

import numpy as np
from numpy.typing import NDArray

from blemish.arrays import FloatMap, Mask
from blemish.dataset.sample import GOOD, Sample
from blemish.errors import BlemishError, BundleError, ImageError, OptionError
from blemish.imaging.prepare import prepare
from blemish.imaging.read import read_image
from blemish.inspection.bundle import Bundle, open_bundle
from blemish.inspection.decide import check_decision, decide, has_thresholds, load_decision
from blemish.inspection.decode import Decoded, decode
from blemish.inspection.engines import Engine
from blemish.inspection.load import Image, Template, load, name_of, standing_mask
from blemish.inspection.manifest import Decision, Manifest, Scale, Tiling
from blemish.inspection.measure import measure
from blemish.inspection.pipeline import Failed, Job, Steps, Unreadable, stream
from blemish.inspection.result import Inspection, Outputs, Region, Verdict
from blemish.inspection.stitching import defect_names
from blemish.inspection.support import engine_of

OnError = Literal["raise", "report"]


class Inspector:
    """A bundle, opened. May be used from several threads at once; nothing in it changes after opening."""

    def __init__(
        self,
        bundle: Bundle,
        engine: Engine,
        manifest: Manifest,
        batch_size: int = 8,
    ) -> None:
        self.bundle = bundle
        self.engine = engine
        self.manifest = manifest  # as the bundle says, with what was changed on opening
        self.batch_size = batch_size
        self._load = partial(load, manifest, standing=standing_mask(bundle))

    @classmethod
    def open(
        cls,
        bundle: str | Path,
        *,
        engine: str = "onnxruntime",
        threads: int | None = None,
        decision: Decision | str | Path | None = None,
        tile: int | None = None,
        overlap: float | None = None,
        px_per_mm: float | tuple[float, float] | None = None,
        batch_size: int = 8,
        product: str | None = None,
    ) -> "Inspector":
        """Open a bundle, or the run folder that holds one.

        `decision` (or a file of one), `tile` (side in px; 0 turns tiling off), `overlap` (share of a tile) and
        `px_per_mm` (or x and y) take the place of what the bundle says. Where it decides for several products, Samples
        name theirs, and all other images are judged as `product`, or as all of them together. Raises BundleError,
        DecisionError, OptionError or MissingExtraError.
        """
        opened = open_bundle(bundle)
        manifest = opened.manifest
        if product is not None:
            manifest = of_product(manifest, product)
        if isinstance(decision, str | Path):
            decision = load_decision(decision, manifest.decision)
        manifest = manifest.model_copy(
            update={
                "decision": decision or manifest.decision,
                "products": manifest.products if decision is None else {},
                "tiling": _tiling(manifest.tiling, tile, overlap),
                "scale": manifest.scale if px_per_mm is None else _scale(px_per_mm),
            }
        )
        for one in (manifest.decision, *(own.decision for own in manifest.products.values())):
            check_decision(one, [*manifest.classes, "defect"], manifest.scale is not None)
        if batch_size < 1:
            raise OptionError(f"batch_size must be at least 1, not {batch_size}")
        return cls(opened, engine_of(opened, engine, threads), manifest, batch_size)

    @overload  # a str is an iterable too, but one image
    def inspect(  # type: ignore[overload-overlap]
        self,
        image: Image,
        *,
        template: Template | None = None,
        valid: Mask | None = None,
        ignore: Mask | None = None,
    ) -> Inspection: ...
    @overload
    def inspect(
        self,
        image: Iterable[Image],
        *,
        template: Template | None = None,
        on_error: Literal["raise"] = "raise",
        workers: int = 1,
    ) -> Iterator[Inspection]: ...
    @overload
    def inspect(
        self,
        image: Iterable[Image],
        *,
        template: Template | None = None,
        on_error: Literal["report"],
        workers: int = 1,
    ) -> Iterator[Inspection | Unreadable]: ...
    def inspect(
        self,
        image: Image | Iterable[Image],
        *,
        template: Template | None = None,
        valid: Mask | None = None,
        ignore: Mask | None = None,
        on_error: OnError = "raise",
        workers: int = 1,
    ) -> Any:
        """Inspect one image (a path, an array (H, W) or (H, W, C), a Sample), or an iterable of them.

        `template` is the defect-free twin that all of them are compared with, for a bundle that does so; without it,
        Samples bring their own. One image gives an Inspection; `valid` and `ignore` are masks (H, W) of the pixels
        that count, or do not. An iterable gives an iterator of them in the same order: it is read lazily, a batch
        ahead, by `workers` threads, and results come a batch behind. With `on_error="report"` an image that cannot be
        inspected gives an Unreadable in its place, and the rest goes on.
        """
        if isinstance(image, str | Path | Sample) or (isinstance(image, np.ndarray) and image.ndim != 4):
            return self._inspect_one(image, valid, ignore, self._checked(template))
        if valid is not None or ignore is not None:
            raise OptionError("valid and ignore go with one image; give Samples with masks, or one image at a time")
        if on_error not in ("raise", "report"):
            raise OptionError(f"on_error is 'raise' or 'report', not {on_error!r}")
        template = self._checked(template)
        if isinstance(template, str | Path):
            template = read_image(template)  # once for all
        return self._inspect_many(image, on_error, workers, template)

    def decision_for(self, product: str | None) -> Decision:
        """The decision of a product; that of all together for none, or one that was not calibrated by its own."""
        own = self.manifest.products.get(product) if product is not None else None
        return self.manifest.decision if own is None else own.decision

    def prepared(self, image: Image) -> FloatMap:
        """What the network sees of an image: its windows (N, channels, height, width), float32, full scale 1.

        The channels of a template, where the bundle compares with one, come after the image's own.
        """
        job = self._load(image)
        return np.stack([self._window(job, index) for index in range(len(job.found.tiles))])

    def conclude(self, image: Image, outputs: Outputs) -> Inspection:
        """The inspection that follows from the raw outputs for an image's `prepared` windows."""
        job = self._load(image)
        for index in range(len(job.found.tiles)):
            job.found.add(index, outputs.row(index))
        return self._finish(job)

    def _checked(self, template: Template | None) -> Template | None:
        if template is not None and not self.manifest.template:
            method = self.manifest.provenance.method
            raise OptionError(f"this bundle of {method} compares with no template; leave the template out")
        return template

    def _inspect_one(
        self, image: Image, valid: Mask | None, ignore: Mask | None, template: Template | None
    ) -> Inspection:
        job = self._load(image, valid, ignore, template)
        tiles = len(job.found.tiles)
        prepare_ms = network_ms = 0.0
        for start in range(0, tiles, self.batch_size):
            indices = range(start, min(start + self.batch_size, tiles))
            begin = time.perf_counter()
            windows = np.stack([self._window(job, index) for index in indices])
            middle = time.perf_counter()
            outputs = self._run(windows)
            network_ms += 1000 * (time.perf_counter() - middle)
            prepare_ms += 1000 * (middle - begin)
            for row, index in enumerate(indices):
                job.found.add(index, outputs.row(row))
        job.timings_ms |= {"prepare": job.timings_ms["prepare"] + prepare_ms, "network": network_ms}
        return self._finish(job)

    def _inspect_many(
        self, images: Iterable[Image], on_error: OnError, workers: int, template: Template | None
    ) -> Iterator[Inspection | Unreadable]:
        steps = Steps(partial(self._load, template=template), self._window, self._run, self._finish, name_of)
        for result in stream(steps, images, self.batch_size, workers):
            if not isinstance(result, Failed):
                yield result
            elif on_error == "raise":
                raise result.error
            else:
                yield Unreadable(result.source, str(result.error))

    def _window(self, job: Job, index: int) -> FloatMap:
        x0, y0, x1, y1 = job.found.tiles[index]
        spec = self.manifest.input
        try:
            seen = [view[y0:y1, x0:x1] for view in (job.view, job.template) if view is not None]
            prepared = [prepare(view, spec.channels, spec.height, spec.width, spec.fit) for view in seen]
            return prepared[0] if len(prepared) == 1 else np.concatenate(prepared)
        except ImageError as error:
            raise ImageError(f"{job.source}: {error}" if job.source else str(error)) from error

    def _run(self, windows: FloatMap) -> Outputs:
        try:
            return self.engine.run(windows)
        except BlemishError:
            raise
        except Exception as error:  # engines' errors have no common type
            raise BundleError(f"the graph cannot run on its input: {' '.join(str(error).split())[:200]}") from error

    def _finish(self, job: Job) -> Inspection:
        begin = time.perf_counter()
        decision = self.decision_for(job.product)
        size = (job.image.shape[0], job.image.shape[1])
        job.found.finish()
        decoded = decode(job.found, decision, size, job.valid)
        for region in decoded.regions:
            self._measure(region, job.image)
        defects = defect_names(self.manifest)
        class_scores = decoded.class_scores
        defect_scores = None if class_scores is None else {name: class_scores[name] for name in defects}
        verdict, reasons, regions = decide(decoded.score, decoded.label, decoded.regions, decision, defect_scores)
        job.timings_ms["decode"] = 1000 * (time.perf_counter() - begin)
        return Inspection(
            verdict=verdict,
            label=_label(decoded, verdict, decision),
            score=decoded.score,
            regions=regions,
            size=size,
            heat_map=decoded.heat_map,
            valid=job.valid,
            class_scores=class_scores,
            candidates=decoded.candidates,
            reasons=reasons,
            timings_ms=job.timings_ms,
            source=job.source,
        )

    def _measure(self, region: Region, image: NDArray[Any]) -> None:
        x0, y0, x1, y1 = region.box
        mask = np.ones((y1 - y0, x1 - x0), bool) if region.mask is None else region.mask
        region.measurements = measure(mask, (x0, y0), image, self.manifest.scale)


def of_product(manifest: Manifest, product: str) -> Manifest:
    """The manifest with one product's decision as that of all images; OptionError where it has none."""
    if product not in manifest.products:
        known = ", ".join(sorted(manifest.products))
        raise OptionError(
            f"this bundle has no decision of its own for '{product}'; "
            + (
                f"it has for {known}, and judges all else as without a product"
                if known
                else "it was calibrated for one product only"
            )
        )
    own = manifest.products[product]
    return manifest.model_copy(update={"decision": own.decision, "calibration": own.calibration})


def _label(decoded: Decoded, verdict: Verdict, decision: Decision) -> str:
    """Good where the verdict is to pass, else the worst finding; just the likeliest class while no threshold is set."""
    if verdict == Verdict.PASS:
        return GOOD
    if decoded.class_scores and not has_thresholds(decision):
        return max(decoded.class_scores, key=decoded.class_scores.__getitem__)
    return decoded.label


def _tiling(stated: Tiling | None, tile: int | None, overlap: float | None) -> Tiling | None:
    if overlap is not None and not 0 <= overlap < 0.9:
        raise OptionError(f"overlap is a share of a tile from 0 to below 0.9, not {overlap:g}")
    if tile == 0:
        return None
    if tile is not None:
        if tile < 16:
            raise OptionError(f"a tile of {tile} px is too small; take 16 or more, or 0 for no tiles")
        stated = Tiling(height=tile, width=tile, **({} if stated is None else {"overlap": stated.overlap}))
    if overlap is not None and stated is not None:
        stated = stated.model_copy(update={"overlap": overlap})
    return stated


def _scale(px_per_mm: float | tuple[float, float]) -> Scale:
    x, y = (px_per_mm, px_per_mm) if isinstance(px_per_mm, int | float) else px_per_mm
    if not (0 < x < float("inf") and 0 < y < float("inf")):
        raise OptionError(f"px_per_mm is a positive number, or two for x and y, not {px_per_mm}")
    return Scale(x=x, y=y)
