"""The parts of detectors against torchvision's and by their properties."""

import itertools
import math

import numpy as np
import onnxruntime
import pytest
import torch
from torch import nn
from torchvision.models.detection._utils import BoxCoder, Matcher
from torchvision.models.detection.anchor_utils import DefaultBoxGenerator
from torchvision.ops import batched_nms, box_iou

from blemish.methods.catalogue import method_class
from blemish.methods.detection.anchors import Anchors, cluster_sizes, size_iou, stated_shapes
from blemish.methods.detection.boxes import decode, encode, from_distances, pairwise_iou, points_of, to_distances
from blemish.methods.detection.losses import focal_softmax
from blemish.methods.detection.matching import match, sample
from blemish.methods.detection.ssd import default_shapes
from blemish.methods.detection.suppression import Suppression, detections, soften


def random_boxes(*shape: int, seed: int = 0, side: float = 100) -> torch.Tensor:
    torch.manual_seed(seed)
    low = torch.rand(*shape, 2) * side
    return torch.cat([low, low + 1 + torch.rand(*shape, 2) * side / 2], dim=-1)


@pytest.mark.parametrize("variances", [(1.0, 1.0), (0.1, 0.2)])
def test_box_coding_is_torchvisions(variances):
    boxes, anchors = random_boxes(200, seed=1), random_boxes(200, seed=2)
    coder = BoxCoder(weights=(1 / variances[0],) * 2 + (1 / variances[1],) * 2)
    offsets = encode(boxes, anchors, variances)
    torch.testing.assert_close(offsets, coder.encode_single(boxes, anchors))
    torch.testing.assert_close(decode(offsets, anchors, variances), coder.decode_single(offsets, anchors))
    torch.testing.assert_close(decode(offsets, anchors, variances), boxes, atol=1e-3, rtol=1e-4)


def test_decoding_stays_finite():
    assert decode(torch.full((1, 4), 1e4), random_boxes(1)).isfinite().all()


def test_distances_come_back():
    boxes, points = random_boxes(50), torch.rand(50, 2) * 100
    torch.testing.assert_close(from_distances(to_distances(boxes, points), points), boxes)


def test_overlap_is_torchvisions_for_each_image():
    a, b = random_boxes(3, 20, seed=1), random_boxes(3, 30, seed=2)
    found = pairwise_iou(a, b)
    for image in range(3):
        torch.testing.assert_close(found[image], box_iou(a[image], b[image]))


@pytest.mark.parametrize("per_class", [False, True])
@pytest.mark.parametrize("seed", range(5))
def test_suppression_is_torchvisions(seed, per_class):
    images, count, classes = 4, 60, 3
    boxes = random_boxes(images, count, classes, seed=seed) if per_class else random_boxes(images, count, seed=seed)
    scores = torch.rand(images, count, classes)
    how = Suppression(iou=0.4, candidates=count * classes, most=count * classes, min_score=0.2)
    found = detections(boxes, scores, how)
    every = boxes if per_class else boxes[:, :, None].expand(-1, -1, classes, -1)
    labels = torch.arange(classes).repeat(count)
    for image in range(images):
        flat, score = every[image].reshape(-1, 4), scores[image].flatten()
        usable = score >= how.min_score
        flat, score, label = flat[usable], score[usable], labels[usable]
        keep = batched_nms(flat, score, label, how.iou)
        real = found["box_scores"][image] > 0
        torch.testing.assert_close(found["box_scores"][image][real], score[keep])
        torch.testing.assert_close(found["boxes"][image][real], flat[keep])
        assert found["box_labels"][image][real].tolist() == label[keep].tolist()
        assert not found["boxes"][image][~real].any()


def reference_soft_nms(boxes, scores, labels, sigma):
    """Bodla et al. 2017, figure 2, as it stands there: one box at a time."""
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


def test_soft_suppression_is_the_papers():
    boxes, scores, labels = random_boxes(2, 40, seed=3), torch.rand(2, 40), torch.randint(0, 2, (2, 40))
    value, index = soften(boxes, scores, labels, 0.5, 40)
    for image in range(2):
        expected = reference_soft_nms(boxes[image], scores[image], labels[image].tolist(), 0.5)
        assert index[image].tolist() == [i for i, _ in expected]
        np.testing.assert_allclose(value[image], [score for _, score in expected], rtol=1e-5)


class Ending(nn.Module):
    def __init__(self, how: Suppression) -> None:
        super().__init__()
        self.how = how

    def forward(self, boxes, scores):
        return detections(boxes, scores, self.how)


@pytest.mark.parametrize("kind", ["hard", "soft"])
def test_exported_suppression_takes_any_number_of_images(kind, tmp_path):
    how = Suppression(kind=kind, candidates=50, most=20)
    path = str(tmp_path / "ending.onnx")
    names = ["boxes", "box_scores", "box_labels"]
    axes = {name: {0: "n"} for name in ("b", "s", *names)}
    example = (random_boxes(2, 40), torch.rand(2, 40, 3))
    torch.onnx.export(
        Ending(how), example, path, dynamo=False, opset_version=17, input_names=["b", "s"], output_names=names,
        dynamic_axes=axes,
    )  # fmt: skip
    session = onnxruntime.InferenceSession(path)
    for count in (1, 3, 7):
        boxes, scores = random_boxes(count, 40, seed=count), torch.rand(count, 40, 3)
        expected = detections(boxes, scores, how)
        for name, found in zip(names, session.run(None, {"b": boxes.numpy(), "s": scores.numpy()}), strict=True):
            np.testing.assert_allclose(found, expected[name].numpy(), rtol=1e-5, atol=1e-5)


def test_one_image_is_judged_alike_alone_and_in_company():
    boxes, scores = random_boxes(6, 80, seed=5), torch.rand(6, 80, 4)
    together = detections(boxes, scores, Suppression())
    for image in range(6):
        alone = detections(boxes[image : image + 1], scores[image : image + 1], Suppression())
        for name, value in alone.items():
            torch.testing.assert_close(value[0], together[name][image])


@pytest.mark.parametrize("seed", range(3))
def test_matching_is_torchvisions(seed):
    anchors, boxes = random_boxes(300, seed=seed), random_boxes(6, seed=seed + 50)
    expected = Matcher(0.5, 0.4, allow_low_quality_matches=True)(box_iou(boxes, anchors))
    torch.testing.assert_close(match(anchors, boxes, 0.5, 0.4), expected)


def test_without_true_boxes_all_is_background():
    assert match(random_boxes(5), torch.zeros(0, 4), 0.5, 0.4).tolist() == [-1] * 5


def test_sampling_keeps_to_count_and_share():
    matched = torch.cat([torch.zeros(40), torch.full((200,), -1.0), torch.full((30,), -2.0)]).long()
    positive, negative = sample(matched, 64, 0.25)
    assert (len(positive), len(negative)) == (16, 48)
    assert (matched[positive] >= 0).all()
    assert (matched[negative] == -1).all()


def test_anchors_stand_where_they_should():
    anchors = Anchors(stated_shapes([8, 16], (4.0,), (0.5, 1.0, 2.0)), [8, 16])
    boxes = anchors([torch.zeros(1, 1, 4, 3), torch.zeros(1, 1, 2, 2)])
    assert boxes.shape == ((12 + 4) * 3, 4)
    torch.testing.assert_close(boxes[1], torch.tensor([4 - 16.0, 4 - 16.0, 4 + 16.0, 4 + 16.0]))
    torch.testing.assert_close((boxes[:36, 2:] - boxes[:36, :2]).prod(dim=1), torch.full((36,), 32.0**2))
    torch.testing.assert_close(points_of(4, 3, 8)[3], torch.tensor([4.0, 12.0]))


def test_fitted_anchors_find_the_groups_of_sizes():
    rng = np.random.default_rng(0)
    groups = np.array([[10, 12], [40, 20], [30, 100], [150, 140]], float)
    sizes = np.concatenate([group * rng.uniform(0.95, 1.05, (50, 2)) for group in groups])
    found = cluster_sizes(sizes, 4)
    assert size_iou(groups, found).max(axis=1).min() > 0.9
    anchors = Anchors(stated_shapes([8, 16], (4.0,), (1.0, 2.0)), [8, 16])
    anchors.fit(sizes)
    assert anchors.shapes.prod(dim=-1).flatten().diff().min() > 0


def placed(sizes: np.ndarray, side: int = 256) -> torch.Tensor:
    corner = np.random.default_rng(1).uniform(0, side - sizes)
    return torch.tensor(np.hstack([corner, corner + sizes]), dtype=torch.float32)


@pytest.mark.parametrize("sides", [(10, 40), (16, 200), (100, 240)])
@pytest.mark.parametrize("name", ["retinanet", "ssd", "faster-rcnn"])
def test_fitted_anchors_match_more_boxes_than_clusters_dealt_out_by_rank(name, sides):
    kind = method_class(name)
    method = kind(kind.Options(backbone="test_resnet", weights="random"), ("good", "a")).eval()
    with torch.no_grad():
        maps = method.features(torch.zeros(1, 3, 256, 256))
    rng = np.random.default_rng(0)
    side, stretch = np.exp(rng.uniform(*np.log(sides), 300)), np.exp(rng.uniform(-1, 1, 300))
    sizes = np.stack([side * np.sqrt(stretch), side / np.sqrt(stretch)], axis=1)
    sizes = sizes[(sizes < 250).all(axis=1)]
    boxes = placed(sizes)

    def found() -> float:
        return float((box_iou(boxes, method.anchors(maps)).amax(dim=1) >= 0.5).float().mean())

    stated = method.anchors.shapes.clone()
    method.anchors.fit(sizes)
    fitted, own = found(), method.anchors.shapes.clone()
    method.anchors.shapes.copy_(torch.from_numpy(cluster_sizes(sizes, own.shape[0] * own.shape[1])).view_as(own))
    assert fitted >= max(found(), 0.86)
    # On the level whose stated shapes they are nearest to; a level without boxes keeps those.
    assert ((own != stated).flatten(1).any(dim=1)).any()
    level = (own.log().mean(dim=(1, 2))[:, None] - stated.log().mean(dim=(1, 2))[None]).abs().argmin(dim=1)
    assert level.tolist() == list(range(len(level)))


def test_anchors_of_a_single_map_span_the_image_whatever_its_size():
    kind = method_class("faster-rcnn")
    shapes = []
    for side in (256, 512):
        options = kind.Options(neck="single", image_size=side, ratios=(1.0,), backbone="test_resnet", weights="random")
        shapes.append(kind(options, ("good", "a")).anchors.shapes / side)
    torch.testing.assert_close(shapes[0], shapes[1])
    torch.testing.assert_close(shapes[0][0, :, 0], torch.tensor([128, 256, 512]) / 600, atol=0.005, rtol=0)


def test_default_boxes_are_those_of_torchvision_and_more_where_sizes_in_between_are_stretched():
    scales, ratios = [0.1, 0.2, 0.43, 0.67, 0.9], (2.0, 3.0)
    generator = DefaultBoxGenerator([[2, 3]] * 5, scales=[*scales, 1.0])
    for level, expected in zip(default_shapes(300, scales, ratios, "square"), generator._wh_pairs, strict=True):
        torch.testing.assert_close(sorted_rows(level / 300), sorted_rows(expected))
    stretched = default_shapes(300, scales, ratios, "stretched")
    middle = [math.sqrt(a * b) for a, b in itertools.pairwise([*scales, 1.0])]
    ladder = DefaultBoxGenerator([[2, 3]] * 5, scales=[*middle, 1.0])
    for level, own, between in zip(stretched / 300, generator._wh_pairs, ladder._wh_pairs, strict=True):
        expected = torch.cat([own, between[[2, 3, 4, 5]]])  # its first two are squares
        torch.testing.assert_close(sorted_rows(level), sorted_rows(expected))


def sorted_rows(sizes: torch.Tensor) -> torch.Tensor:
    return torch.tensor(sorted(sizes.tolist()))


def test_fewer_sizes_than_clusters():
    assert cluster_sizes(np.array([[10.0, 10.0], [20.0, 30.0]]), 6).shape == (6, 2)


def test_focal_softmax_without_focus_is_cross_entropy():
    logits, target = torch.randn(20, 4), torch.randint(0, 4, (20,))
    expected = nn.functional.cross_entropy(logits, target, reduction="none")
    torch.testing.assert_close(focal_softmax(logits, target, gamma=0.0), expected)


@pytest.mark.parametrize(
    ("name", "most"), [("retinanet", 0.02), ("faster-rcnn", 0.02), ("mask-rcnn", 0.02), ("ssd", 0.02)]
)
def test_default_anchors_come_near_to_long_defects_and_to_square_ones(name, most):
    """Of boxes six times as long as wide at most, how many no anchor matches."""
    kind = method_class(name)
    method = kind(kind.Options(backbone="test_resnet", weights="random"), ("good", "a")).eval()
    with torch.no_grad():
        anchors = method.anchors(method.features(torch.zeros(1, 3, 256, 256)))
    rng = np.random.default_rng(0)
    side, stretch = np.exp(rng.uniform(np.log(24), np.log(160), 500)), np.exp(rng.uniform(-1.8, 1.8, 500))
    sides = np.stack([side * np.sqrt(stretch), side / np.sqrt(stretch)], axis=1)
    sides = sides[(sides < 250).all(axis=1)]
    corner = rng.uniform(0, 256 - sides)
    boxes = torch.tensor(np.hstack([corner, corner + sides]), dtype=torch.float32)
    assert float((box_iou(boxes, anchors).amax(dim=1) < 0.5).float().mean()) < most
