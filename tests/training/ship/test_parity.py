"""Comparing detections: what must not matter, and what must."""

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from blemish.dataset.sample import Sample
from blemish.errors import ExportError
from blemish.inspection.agreement import NOISE, DetectionAgreement
from blemish.inspection.result import Outputs
from blemish.training.ship.parity import certify


def detections(seed: int = 0, count: int = 20) -> Outputs:
    rng = np.random.default_rng(seed)
    low = rng.uniform(0, 200, (2, count, 2))
    boxes = np.concatenate([low, low + rng.uniform(20, 60, (2, count, 2))], axis=2).astype(np.float32)
    scores = np.sort(rng.uniform(0.01, 1, (2, count)).astype(np.float32))[:, ::-1].copy()
    return Outputs(boxes=boxes, box_scores=scores, box_labels=rng.integers(0, 3, (2, count)))


def changed(given: Outputs, **parts: np.ndarray) -> Outputs:
    return Outputs(**{kind: parts.get(kind, getattr(given, kind)) for kind in given.kinds()})


def agreement(a: Outputs, b: Outputs) -> DetectionAgreement:
    found = DetectionAgreement()
    found.add(a, b)
    return found


def test_order_and_padding_do_not_matter():
    given = detections()
    order = np.random.default_rng(1).permutation(20)
    shuffled = Outputs(**{kind: getattr(given, kind)[:, order] for kind in given.kinds()})
    padded = Outputs(
        boxes=np.pad(shuffled.boxes, ((0, 0), (3, 5), (0, 0))),
        box_scores=np.pad(shuffled.box_scores, ((0, 0), (3, 5))),
        box_labels=np.pad(shuffled.box_labels, ((0, 0), (3, 5))),
    )
    found = agreement(given, padded)
    assert (found.detections, found.matched, found.score_difference) == (40, 40, 0.0)


def test_the_largest_difference_of_scores_is_told():
    given = detections()
    scores = given.box_scores.copy()
    scores[1, 3] += 0.004
    assert agreement(given, changed(given, box_scores=scores)).score_difference == pytest.approx(0.004, abs=1e-6)


@pytest.mark.parametrize("kind", ["moved", "renamed", "missing", "added"])
def test_another_detection_is_not_matched(kind):
    given = detections()
    boxes, scores, labels = given.boxes.copy(), given.box_scores.copy(), given.box_labels.copy()
    if kind == "moved":
        boxes[0, 0] += 3
    elif kind == "renamed":
        labels[0, 0] += 1
    else:
        scores[0, 0] = 0
    other = Outputs(boxes=boxes, box_scores=scores, box_labels=labels)
    found = agreement(other, given) if kind == "added" else agreement(given, other)
    assert (found.detections, found.matched) == (40, 39)
    assert found.share == pytest.approx(39 / 40)


def test_masks_are_compared():
    given = detections()
    given.box_masks = np.random.default_rng(2).random((2, 20, 7, 7)).astype(np.float32)
    masks = given.box_masks.copy()
    masks[0, 5, 3, 3] += 0.25
    assert agreement(given, changed(given, box_masks=masks)).mask_difference == pytest.approx(0.25)


def test_nothing_found_on_either_side_agrees():
    empty = Outputs(
        boxes=np.zeros((1, 5, 4), np.float32), box_scores=np.zeros((1, 5), np.float32),
        box_labels=np.zeros((1, 5), np.int64),
    )  # fmt: skip
    assert agreement(empty, empty).share == 1.0


class Memory:
    """Distances to one image that was learnt from: 0 for the image itself."""

    uses_template = False

    def __init__(self, image, error=0.0):
        self.image, self.error = image, error

    def __call__(self, images):
        distances = (images - torch.from_numpy(self.image)).square().sum(dim=1).sqrt() + self.error
        return {"anomaly_map": distances, "anomaly_score": distances.amax(dim=(1, 2))}


def certified(method, images, error, scale=1.0):
    """The certificate of a graph that is wrong by `error`, and by a factor."""

    def run(batch):
        with torch.inference_mode():
            own = method(torch.from_numpy(batch))
        return Outputs(**{name: scale * value.numpy() + np.float32(error) for name, value in own.items()})

    inspector = SimpleNamespace(
        prepare=lambda sample: images[int(sample.image.stem)],
        engine=SimpleNamespace(run=run),
        manifest=SimpleNamespace(outputs=["anomaly_map", "anomaly_score"]),
    )
    return certify(method, inspector, [Sample(Path(f"{i}.png")) for i in range(len(images))])


def some_images(count):
    return [np.random.default_rng(i).random((1, 3, 8, 8), dtype=np.float32) for i in range(count)]


def test_validation_images_equal_to_training_images_are_compared_with_a_little_noise():
    images = some_images(2)
    certificate, compared = certified(Memory(images[0]), [images[0], images[1], images[0]], error=1e-6)
    assert certificate.noise == NOISE
    assert certificate.score_difference < 1e-3
    assert min(float(trained.anomaly_score[0]) for _, trained, _ in compared) > NOISE
    certificate, _ = certified(Memory(images[0]), images[1:], error=1e-6)
    assert certificate.noise == 0


def test_one_constant_image_is_certified():
    plain = np.full((1, 3, 8, 8), 0.5, np.float32)
    assert certified(Memory(plain), [plain] * 3, error=1e-6)[0].noise == NOISE


@pytest.mark.parametrize(("error", "scale"), [(0.05, 1.0), (0.0, 1.01)])
@pytest.mark.parametrize("same", [False, True])
def test_a_wrong_graph_is_refused_with_noise_too(error, scale, same):
    images = some_images(2)
    with pytest.raises(ExportError, match="differs from the network"):
        certified(Memory(images[0], error=1e-7 * same), images[:1] if same else images[1:], error, scale)
