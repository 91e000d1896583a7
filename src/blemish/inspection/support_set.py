"""Few-shot classes: a support set of labelled vectors next to a graph that gives embeddings; a class is added without
training.

The manifest says how class scores follow from an image's embedding e. Euclidean: -scale * mean square of e - v.
Cosine: scale * cosine of e and v. By prototypes, v is the mean of a class's vectors and the softmax of the scores
gives probabilities; by attention, each vector has its softmax weight and a class the mean of its vectors', normalised
to sum to one over the classes: a class with fifty vectors is not ten times as likely as one enrolled with five.
"""

import io

import numpy as np
from numpy.typing import NDArray

from blemish.arrays import FloatMap
from blemish.errors import BundleError
from blemish.inspection.bundle import Bundle
from blemish.inspection.engines import Engine, open_engine
from blemish.inspection.manifest import SupportSet
from blemish.inspection.result import Outputs


def score_classes(embeddings: FloatMap, vectors: FloatMap, support: SupportSet, classes: int) -> FloatMap:
    """Probabilities (N, classes) of embeddings (N, E), given the support's vectors (S, E).

    A class without any vector has probability 0.
    """
    owners, weights = np.asarray(support.classes), np.asarray(support.weights, np.float64)
    targets, member = vectors.astype(np.float64), (owners[:, None] == np.arange(classes)) * weights[:, None]
    totals = member.sum(axis=0)
    member = member / np.maximum(totals, 1e-12)
    if support.rule == "prototype":
        targets, member = member.T @ targets, np.diag((totals > 0).astype(np.float64))
    logits = support.scale * _similarity(embeddings.astype(np.float64), targets, support.metric)
    used = member.any(axis=1)
    logits = np.where(used, logits, -np.inf)
    shares = np.exp(logits - logits.max(axis=1, keepdims=True)) @ member
    return np.asarray(shares / shares.sum(axis=1, keepdims=True), np.float32)


def pack_vectors(vectors: FloatMap) -> bytes:
    """Vectors (S, E) float32 as the bytes of a .npy file."""
    stream = io.BytesIO()
    np.save(stream, np.ascontiguousarray(vectors, np.float32), allow_pickle=False)
    return stream.getvalue()


def unpack_vectors(bundle: Bundle) -> FloatMap:
    """The vectors (S, E) of a bundle; BundleError where they are missing or do not fit its manifest."""
    support = bundle.manifest.support
    if support is None or support.member not in bundle.extras:
        raise BundleError(f"bundle {bundle.path} classifies by a support set, which is missing from it")
    try:
        vectors = np.load(io.BytesIO(bundle.extras[support.member]), allow_pickle=False)
    except (ValueError, EOFError, OSError) as error:
        raise BundleError(f"bundle {bundle.path}: {support.member} is not an array of vectors") from error
    known = len(bundle.manifest.classes)
    sound = vectors.ndim == 2 and len(vectors) == len(support.classes) == len(support.weights) > 0
    if not sound or vectors.dtype != np.float32 or not np.isfinite(vectors).all() or max(support.classes) >= known:
        raise BundleError(f"bundle {bundle.path}: {support.member} does not fit the manifest")
    return np.asarray(vectors, np.float32)


def open_bundle_engine(
    bundle: Bundle, engine: str = "onnxruntime", threads: int | None = None, device: str | None = None
) -> Engine:
    """The engine of a bundle: of its graph and, where it has one, of its support set."""
    opened, manifest = open_engine(bundle.graph, engine, threads, device), bundle.manifest
    if manifest.support is None:
        return opened
    return SupportSetEngine(opened, unpack_vectors(bundle), manifest.support, len(manifest.classes))


class SupportSetEngine:
    """An engine whose graph gives embeddings; class scores follow from them and the support set."""

    def __init__(self, engine: Engine, vectors: FloatMap, support: SupportSet, classes: int) -> None:
        self.name, self.threads, self.device = engine.name, engine.threads, engine.device
        self._engine, self._vectors, self._support, self._classes = engine, vectors, support, classes

    def run(self, batch: FloatMap) -> Outputs:
        outputs = self._engine.run(batch)
        if outputs.embedding is None or outputs.embedding.shape[1:] != self._vectors.shape[1:]:
            raise BundleError("the graph gives no embedding that fits the bundle's support set")
        outputs.class_scores = score_classes(outputs.embedding, self._vectors, self._support, self._classes)
        return outputs


def _similarity(a: NDArray[np.float64], b: NDArray[np.float64], metric: str) -> NDArray[np.float64]:
    if metric == "cosine":
        a, b = (v / np.maximum(np.linalg.norm(v, axis=1, keepdims=True), 1e-12) for v in (a, b))
        return np.asarray(a @ b.T)
    return np.asarray(-np.square(a[:, None] - b[None]).mean(axis=2))
