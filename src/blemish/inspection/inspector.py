"""Open a bundle and inspect images with it."""

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, Literal, overload

import numpy as np

from blemish.arrays import FloatArray, Mask
from blemish.dataset.sample import Sample
from blemish.errors import OptionError
from blemish.imaging.read import read_image
from blemish.inspection.bundle import Bundle, open_bundle, warn_calibrations
from blemish.inspection.decide import load_decision
from blemish.inspection.decision_check import check_bundle_decision
from blemish.inspection.engines import Engine
from blemish.inspection.image_job import ImageInput, ReferenceInput, bundle_valid_mask, fixed_sizes
from blemish.inspection.manifest import Decision, Manifest, Scale, Tiling
from blemish.inspection.pipeline import FailedInspection, Pipeline
from blemish.inspection.refine import open_refiner
from blemish.inspection.result import Inspection, Outputs, Reason
from blemish.inspection.support_set import open_bundle_engine
from blemish.inspection.uncertainty import unreliable_rules

OnError = Literal["raise", "report"]


class Inspector:
    """An opened bundle. May be used from several threads at once; nothing in it changes after opening."""

    def __init__(self, bundle: Bundle, engine: Engine, manifest: Manifest, batch_size: int = 8) -> None:
        self.bundle = bundle
        self.engine = engine
        self.manifest = manifest  # the bundle's, with what was changed on opening
        self.batch_size = batch_size
        self.notes: list[str] = []  # what the user should know of what was changed on opening
        name = "openvino" if engine.name == "openvino" else "onnxruntime"
        refiner = open_refiner(bundle, name, engine.threads)
        sizes = fixed_sizes(manifest, bundle.manifest.scale)
        self._pipeline = Pipeline(engine, manifest, batch_size, bundle_valid_mask(bundle), refiner, sizes)

    @classmethod
    def open(
        cls,
        bundle: str | Path,
        *,
        engine: str = "onnxruntime",
        threads: int | None = None,
        device: str | None = None,
        decision: Decision | str | Path | None = None,
        tile: int | None = None,
        overlap: float | None = None,
        px_per_mm: float | tuple[float, float] | None = None,
        batch_size: int = 8,
        product: str | None = None,
    ) -> "Inspector":
        """Open a bundle, or the run folder that holds one.

        `device` is "cpu" (the default), "cuda", "cuda:1", "gpu", "npu", "dml" or "coreml", as the engine has it.
        `decision` (or a file of one), `tile` (side in px; 0 turns tiling off), `overlap` (share of a tile) and
        `px_per_mm` (or x and y) replace the bundle's own. In a bundle for several products, Samples name theirs; any
        other image gets the decision of `product`, by default the common one. `notes` of the inspector say what of this
        makes results less sure. Raises BundleError, DecisionError, OptionError or MissingExtraError.
        """
        opened = open_bundle(bundle)
        manifest = opened.manifest
        if manifest.compression is not None and manifest.compression.engine != engine:
            own = manifest.compression.engine
            raise OptionError(
                f"bundle {opened.path} was compressed for {own}, and its thresholds hold there only; take --engine "
                f"{own} (engine='{own}'), or compress the float32 bundle again with --engine {engine}"
            )
        manifest, notes = change_manifest(
            manifest, decision=decision, tile=tile, overlap=overlap, px_per_mm=px_per_mm, product=product
        )
        if batch_size < 1:
            raise OptionError(f"batch_size must be at least 1, not {batch_size}")
        inspector = cls(opened, open_bundle_engine(opened, engine, threads, device), manifest, batch_size)
        inspector.notes = notes
        return inspector

    @overload  # a str is an iterable too, but one image
    def inspect(  # type: ignore[overload-overlap]
        self,
        image: ImageInput,
        *,
        template: ReferenceInput | None = None,
        valid: Mask | None = None,
        ignore: Mask | None = None,
    ) -> Inspection: ...
    @overload
    def inspect(
        self,
        image: Iterable[ImageInput],
        *,
        template: ReferenceInput | None = None,
        on_error: Literal["raise"] = "raise",
        workers: int = 1,
    ) -> Iterator[Inspection]: ...
    @overload
    def inspect(
        self,
        image: Iterable[ImageInput],
        *,
        template: ReferenceInput | None = None,
        on_error: Literal["report"],
        workers: int = 1,
    ) -> Iterator[Inspection | FailedInspection]: ...
    def inspect(
        self,
        image: ImageInput | Iterable[ImageInput],
        *,
        template: ReferenceInput | None = None,
        valid: Mask | None = None,
        ignore: Mask | None = None,
        on_error: OnError = "raise",
        workers: int = 1,
    ) -> Any:
        """Inspect one image (a path, an array (H, W) or (H, W, C), a Sample), or an iterable of them.

        `template` is the reference image that all of them are compared with, for a bundle that does so; without it,
        Samples bring their own. One image gives an Inspection; `valid` and `ignore` are masks (H, W) of the pixels to
        inspect, or not to. An iterable gives an iterator in the same order: it is read lazily, a batch ahead, by
        `workers` threads, and results come a batch behind. With `on_error="report"` an image that cannot be inspected
        gives a FailedInspection in its place, and the rest goes on; else the first error is raised. Raises ImageError,
        BundleError or OptionError.
        """
        if template is not None and not self.manifest.template:
            method = self.manifest.provenance.method
            raise OptionError(f"this bundle of {method} compares with no template; leave the template out")
        if isinstance(image, str | Path | Sample) or (isinstance(image, np.ndarray) and image.ndim != 4):
            return self._pipeline.inspect(self._pipeline.load(image, template, valid, ignore))
        if valid is not None or ignore is not None:
            raise OptionError("valid and ignore go with one image; give Samples with masks, or one image at a time")
        if on_error not in ("raise", "report"):
            raise OptionError(f"on_error is 'raise' or 'report', not {on_error!r}")
        if isinstance(template, str | Path):
            template = read_image(template)  # once for all
        return self._inspect_many(image, on_error, workers, template)

    def inspect_batch(self, images: Sequence[ImageInput]) -> list[Inspection | FailedInspection]:
        """Inspect images together, all of it in this thread: for callers that have threads of their own.

        `inspect` is faster for many images, as its threads overlap. An image that cannot be inspected gives a
        FailedInspection. Raises BundleError.
        """
        return self._pipeline.inspect_batch(images)

    def get_decision(self, product: str | None) -> Decision:
        """The decision of a product; the common one for None, or for a product without thresholds of its own."""
        return self._pipeline.get_decision(product)

    def find_misfit(self, image: ImageInput) -> Reason | None:
        """Why an image cannot be decided on, since it is unlike the training images; None where it is like them."""
        return self._pipeline.load(image).misfit

    def prepare(self, image: ImageInput) -> FloatArray:
        """The network's input for an image: its tiles (N, channels, height, width), float32, full scale 1.

        A reference image's channels, where the bundle compares with one, come after the image's own.
        """
        job = self._pipeline.load(image)
        return np.stack([self._pipeline.prepare_tile(job, index) for index in range(len(job.stitcher.tiles))])

    def inspect_outputs(self, image: ImageInput, outputs: Outputs) -> Inspection:
        """The inspection that follows from given raw outputs, a row for each tile of `prepare`."""
        job = self._pipeline.load(image)
        for index in range(len(job.stitcher.tiles)):
            job.stitcher.add(index, outputs.row(index))
        return self._pipeline.finish(job)

    def _inspect_many(
        self, images: Iterable[ImageInput], on_error: OnError, workers: int, template: ReferenceInput | None
    ) -> Iterator[Inspection | FailedInspection]:
        for result in self._pipeline.stream(images, workers, template):
            if isinstance(result, FailedInspection) and on_error == "raise":
                raise result.error
            yield result


def change_manifest(
    manifest: Manifest,
    *,
    decision: Decision | str | Path | None = None,
    tile: int | None = None,
    overlap: float | None = None,
    px_per_mm: float | tuple[float, float] | None = None,
    product: str | None = None,
) -> tuple[Manifest, list[str]]:
    """A bundle's manifest with what an inspection changes, as for `Inspector.open`, and notes on it for the user.

    Other tiles than the bundle's are also a warning of its calibrations. Raises DecisionError or OptionError.
    """
    if product is not None:
        manifest = select_product(manifest, product)
    if isinstance(decision, str | Path):
        decision = load_decision(decision, manifest.decision)
    tiling, before = _tiling(manifest.tiling, tile, overlap), manifest.tiling
    manifest = manifest.model_copy(
        update={
            "decision": decision or manifest.decision,
            "products": manifest.products if decision is None else {},
            "tiling": tiling,
            "scale": manifest.scale if px_per_mm is None else _scale(px_per_mm, manifest.scale),
        }
    )
    for one in (manifest.decision, *(own.decision for own in manifest.products.values())):
        check_bundle_decision(one, manifest, manifest.scale is not None)
    notes = [] if decision is None else unreliable_rules(decision, manifest)
    if tiling != before:
        note = f"the thresholds were not calibrated for {_describe(tiling)}, but for {_describe(before)}"
        manifest, notes = warn_calibrations(manifest, note), [note, *notes]
    return manifest, notes


def _describe(tiling: Tiling | None) -> str:
    if tiling is None:
        return "images without tiles"
    return f"tiles of {tiling.width}×{tiling.height} px with an overlap of {tiling.overlap:g}"


def select_product(manifest: Manifest, product: str) -> Manifest:
    """The manifest with one product's decision for all images; OptionError where the product has none."""
    if product not in manifest.products:
        known = ", ".join(sorted(manifest.products))
        others = f"it has one for {known}" if known else "it was calibrated for one product only"
        raise OptionError(f"this bundle has no decision of its own for '{product}'; {others}")
    own = manifest.products[product]
    return manifest.model_copy(update={"decision": own.decision, "calibration": own.calibration})


def _tiling(current: Tiling | None, tile: int | None, overlap: float | None) -> Tiling | None:
    if overlap is not None and not 0 <= overlap < 0.9:
        raise OptionError(f"overlap is a share of a tile from 0 to below 0.9, not {overlap:g}")
    if overlap is not None and (tile == 0 or (tile is None and current is None)):
        raise OptionError("an overlap has no effect without tiles; give their size too (--tile), or leave it out")
    if tile == 0:
        return None
    if tile is not None:
        if tile < 16:
            raise OptionError(f"a tile of {tile} px is too small; use 16 or more, or 0 for no tiles")
        current = Tiling(height=tile, width=tile, **({} if current is None else {"overlap": current.overlap}))
    if overlap is not None and current is not None:
        current = current.model_copy(update={"overlap": overlap})
    return current


def _scale(px_per_mm: float | tuple[float, float], known: Scale | None) -> Scale:
    """The scale that was given, of unknown uncertainty unless it is the known one."""
    x, y = (px_per_mm, px_per_mm) if isinstance(px_per_mm, int | float) else px_per_mm
    if not (0 < x < float("inf") and 0 < y < float("inf")):
        raise OptionError(f"px_per_mm is a positive number, or two for x and y, not {px_per_mm}")
    return known if known is not None and (known.x, known.y) == (x, y) else Scale(x=x, y=y)
