"""Adding a class to a bundle that knows its classes by examples: a few images, no training, no torch."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from blemish.arrays import FloatMap
from blemish.dataset.image_files import class_label
from blemish.errors import BundleError, OptionError
from blemish.inspection.bundle import open_bundle, write_bundle
from blemish.inspection.inspector import Inspector
from blemish.inspection.load import Image
from blemish.inspection.manifest import Calibration, Manifest
from blemish.inspection.support import pack, unpack

ENROLLED = "classes were enrolled after calibration; its promises do not hold for them"


def enroll(bundle: str | Path, name: str, images: Sequence[Image], out: str | Path | None = None) -> Manifest:
    """Add images of a class, a new one or one that the bundle knows; writes the bundle, or another at `out`.

    Returns the new manifest. Raises BundleError for a bundle that cannot learn so, OptionError for a bad name or no
    images, ImageError for an image that cannot be read; then nothing is written.
    """
    opened = open_bundle(bundle)
    support = opened.manifest.support
    if support is None:
        raise BundleError(
            f"bundle {opened.path} ({opened.manifest.provenance.method}) cannot take classes without training; "
            "train 'prototypical' or 'matching' for that"
        )
    if not name.strip() or name != name.strip() or "|" in name:
        raise OptionError(f"'{name}' cannot be the name of a class")
    name = class_label(name)
    near = next((own for own in opened.manifest.classes if own.casefold() == name.casefold()), name)
    if near != name:
        raise OptionError(f"the bundle knows '{near}'; give that name, or one that differs in more than capitals")
    if not images:
        raise OptionError(f"no images of {name}; give one or more")
    vectors, fresh = unpack(opened), embeddings(Inspector.open(bundle), images)
    weights = [1] * len(fresh)
    if support.rule == "prototype":  # the mean is all that counts
        fresh, weights = fresh.mean(axis=0, keepdims=True), [len(fresh)]
    classes = opened.manifest.classes + ([] if name in opened.manifest.classes else [name])
    owners = [*support.classes, *[classes.index(name)] * len(fresh)]
    products = {
        product: own.model_copy(update={"calibration": _warned(own.calibration)})
        for product, own in opened.manifest.products.items()
    }
    manifest = opened.manifest.model_copy(
        update={
            "classes": classes,
            "support": support.model_copy(update={"classes": owners, "weights": [*support.weights, *weights]}),
            "calibration": _warned(opened.manifest.calibration),
            "products": products,
        }
    )
    parts = {**opened.extras, support.part: pack(np.concatenate([vectors, fresh]))}
    write_bundle(out or opened.path, opened.graph, manifest, parts)
    return manifest


def _warned(calibration: Calibration | None) -> Calibration | None:
    if calibration is None:
        return None
    notes = [line for line in calibration.warnings if line != ENROLLED]
    return calibration.model_copy(update={"warnings": [*notes, ENROLLED]})


def embeddings(inspector: Inspector, images: Sequence[Image]) -> FloatMap:
    """The graph's embeddings (N, E) of whole images; BundleError where it gives none, or cuts images into tiles."""
    if inspector.manifest.tiling is not None:
        raise BundleError("the bundle cuts images into tiles; enroll with a bundle that sees images whole")
    if "embedding" not in inspector.manifest.outputs:
        raise BundleError(f"the graph of {inspector.bundle.path} gives no embedding")
    rows = []
    for image in images:
        found = inspector.engine.run(inspector.prepared(image)).embedding
        assert found is not None
        rows.append(found[0])
    return np.stack(rows)
