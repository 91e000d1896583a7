"""Add a class to a bundle with a support set: from a few images, without training or torch."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from blemish.arrays import FloatArray
from blemish.dataset.labels import normalize_label
from blemish.dataset.sample import Sample
from blemish.errors import BundleError, ImageError, OptionError
from blemish.inspection.bundle import open_bundle, warn_calibrations, write_bundle
from blemish.inspection.image_job import ImageInput, image_name
from blemish.inspection.inspector import Inspector
from blemish.inspection.manifest import Manifest
from blemish.inspection.seen_images import with_seen
from blemish.inspection.support_set import pack_vectors, unpack_vectors

ENROLLED = "classes were enrolled after calibration, which does not cover them"


def enroll(bundle: str | Path, name: str, images: Sequence[ImageInput], out: str | Path | None = None) -> Manifest:
    """Add images of a new or a known class to a bundle's support set; writes the bundle, or a copy at `out`.

    Returns the new manifest. Raises BundleError for a bundle without a support set, OptionError for a bad name or no
    images, ImageError for an image that cannot be read, or is unlike the training images; then nothing is written.
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
    name = normalize_label(name)
    near = next((own for own in opened.manifest.classes if own.casefold() == name.casefold()), name)
    if near != name:
        raise OptionError(f"the bundle knows '{near}'; give that name, or one that differs in more than capitals")
    if not images:
        raise OptionError(f"no images of {name}; give one or more")
    vectors, fresh = unpack_vectors(opened), embed(Inspector.open(bundle), images)
    weights = [1] * len(fresh)
    if support.rule == "prototype":  # only the mean is used
        fresh, weights = fresh.mean(axis=0, keepdims=True), [len(fresh)]
    classes = opened.manifest.classes + ([] if name in opened.manifest.classes else [name])
    owners = [*support.classes, *[classes.index(name)] * len(fresh)]
    enlarged = support.model_copy(update={"classes": owners, "weights": [*support.weights, *weights]})
    manifest = opened.manifest.model_copy(update={"classes": classes, "support": enlarged})
    manifest = warn_calibrations(manifest, ENROLLED)
    files = [i.image if isinstance(i, Sample) else Path(i) for i in images if not isinstance(i, np.ndarray)]
    members = {**with_seen(opened, files), support.member: pack_vectors(np.concatenate([vectors, fresh]))}
    write_bundle(out or opened.path, opened.graph, manifest, members)
    return manifest


def embed(inspector: Inspector, images: Sequence[ImageInput]) -> FloatArray:
    """The graph's embeddings (N, E) float32 of whole images.

    BundleError for a graph without them, or with tiling; ImageError for an image unlike the training images.
    """
    if inspector.manifest.tiling is not None:
        raise BundleError("the bundle cuts images into tiles; enroll with a bundle without tiling")
    if "embedding" not in inspector.manifest.outputs:
        raise BundleError(f"the graph of {inspector.bundle.path} gives no embedding")
    rows = []
    for image in images:
        if (misfit := inspector.find_misfit(image)) is not None:
            raise ImageError(f"{image_name(image)}: {misfit}; take images like those of the training")
        embedding = inspector.engine.run(inspector.prepare(image)).embedding
        assert embedding is not None
        rows.append(embedding[0])
    return np.stack(rows)
