"""Non-maximum suppression against torchvision's and the paper's, also as an exported graph."""

import numpy as np
import onnxruntime
import pytest
import torch
from torch import nn
from torchvision.ops import batched_nms

from blemish.methods.detection.suppression import Suppression, soft_nms, suppress


@pytest.mark.parametrize("per_class", [False, True])
@pytest.mark.parametrize("seed", range(5))
def test_hard_suppression_equals_batched_nms(seed, per_class, random_boxes):
    images, count, classes = 4, 60, 3
    boxes = random_boxes(images, count, classes, seed=seed) if per_class else random_boxes(images, count, seed=seed)
    scores = torch.rand(images, count, classes)
    how = Suppression(iou=0.4, candidates=count * classes, max_boxes=count * classes, min_score=0.2)
    result = suppress(boxes, scores, how)
    every = boxes if per_class else boxes[:, :, None].expand(-1, -1, classes, -1)
    labels = torch.arange(classes).repeat(count)
    for image in range(images):
        flat, score = every[image].reshape(-1, 4), scores[image].flatten()
        usable = score >= how.min_score
        flat, score, label = flat[usable], score[usable], labels[usable]
        keep = batched_nms(flat, score, label, how.iou)
        real = result["box_scores"][image] > 0
        torch.testing.assert_close(result["box_scores"][image][real], score[keep])
        torch.testing.assert_close(result["boxes"][image][real], flat[keep])
        assert result["box_labels"][image][real].tolist() == label[keep].tolist()
        assert not result["boxes"][image][~real].any()


def reference_soft_nms(boxes, scores, labels, sigma):
    """Bodla et al. 2017, figure 2, literally: one box at a time."""
    boxes, scores, order = boxes.numpy(), scores.numpy().copy(), []
    left = set(range(len(scores)))
    while left:
        best = max(left, key=lambda i: scores[i])
        left.remove(best)
        order.append((best, scores[best]))
        for i in left:
            if labels[i] == labels[best]:
                low, high = np.maximum(boxes[i, :2], boxes[best, :2]), np.minimum(boxes[i, 2:], boxes[best, 2:])
                shared = (high - low).clip(0).prod()
                areas = sum((boxes[k, 2:] - boxes[k, :2]).prod() for k in (i, best))
                scores[i] *= np.exp(-((shared / (areas - shared)) ** 2) / sigma)
    return order


def test_soft_suppression_equals_the_papers_algorithm(random_boxes):
    boxes, scores, labels = random_boxes(2, 40, seed=3), torch.rand(2, 40), torch.randint(0, 2, (2, 40))
    value, index = soft_nms(boxes, scores, labels, 0.5, 40)
    for image in range(2):
        expected = reference_soft_nms(boxes[image], scores[image], labels[image].tolist(), 0.5)
        assert index[image].tolist() == [i for i, _ in expected]
        np.testing.assert_allclose(value[image], [score for _, score in expected], rtol=1e-5)


class Ending(nn.Module):
    def __init__(self, how: Suppression) -> None:
        super().__init__()
        self.how = how

    def forward(self, boxes, scores):
        return suppress(boxes, scores, self.how)


def open_onnxruntime(path, names):
    session = onnxruntime.InferenceSession(path)
    return lambda inputs: session.run(names, inputs)


def open_openvino(path, names):
    openvino = pytest.importorskip("openvino")
    model = openvino.Core().compile_model(path, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    return lambda inputs: [model(inputs)[name] for name in names]


@pytest.mark.parametrize("open_graph", [open_onnxruntime, open_openvino])
@pytest.mark.parametrize("kind", ["hard", "soft"])
def test_exported_suppression_takes_any_number_of_images(kind, open_graph, tmp_path, random_boxes):
    how = Suppression(kind=kind, candidates=50, max_boxes=20)
    path = str(tmp_path / "ending.onnx")
    names = ["boxes", "box_scores", "box_labels"]
    axes = {name: {0: "n"} for name in ("b", "s", *names)}
    example = (random_boxes(2, 40), torch.rand(2, 40, 3))
    torch.onnx.export(
        Ending(how), example, path, dynamo=False, opset_version=17, input_names=["b", "s"], output_names=names,
        dynamic_axes=axes,
    )  # fmt: skip
    run = open_graph(path, names)
    for count in (1, 3, 7):
        boxes, scores = random_boxes(count, 40, seed=count), torch.rand(count, 40, 3)
        expected = suppress(boxes, scores, how)
        for name, result in zip(names, run({"b": boxes.numpy(), "s": scores.numpy()}), strict=True):
            np.testing.assert_allclose(result, expected[name].numpy(), rtol=1e-5, atol=1e-5)


def test_suppression_does_not_depend_on_the_batch(random_boxes):
    boxes, scores = random_boxes(6, 80, seed=5), torch.rand(6, 80, 4)
    together = suppress(boxes, scores, Suppression())
    for image in range(6):
        alone = suppress(boxes[image : image + 1], scores[image : image + 1], Suppression())
        for name, value in alone.items():
            torch.testing.assert_close(value[0], together[name][image])
