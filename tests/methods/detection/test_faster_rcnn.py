"""The stages of Faster R-CNN and of its cascade."""

import math

import torch
from torch import nn

from blemish.methods.detection.faster_rcnn import SampledProposals, rematch
from blemish.methods.detection.matching import BACKGROUND, IGNORED

SIDE = 64


def test_each_stage_of_a_cascade_refines_the_boxes_of_the_one_before(make_detector, two_defects):
    method = make_detector("faster-rcnn", cascade=2).eval()
    names = torch.tensor([[0.0, 1.0, 3.0], [0.0, 2.0, 1.0]])
    moves = torch.zeros(2, 2, 4)
    moves[0, 1, 0] = 1.0  # the first stage's likeliest class: a tenth of the width to the right
    moves[1, 0, 3] = 2.0  # a tenth of exp() higher, about the middle
    for head, name, move in zip(method.heads, names, moves, strict=True):
        for layer, bias in ((head.classifier, name), (head.regressor, move.flatten())):
            nn.init.zeros_(layer.weight)
            layer.bias.data.copy_(bias)
    images = two_defects["image"]
    with torch.no_grad():
        maps = method.features(images)
        given, real = method.propose(images, *method.predict_anchors(maps))
        boxes, scores = method.predict_from_maps(maps, images)
    x0, y0, x1, y1 = given.unbind(dim=2)
    x0, x1 = (x0 + 0.1 * (x1 - x0)).clamp(max=SIDE), (x1 + 0.1 * (x1 - x0)).clamp(max=SIDE)
    taller = (y1 - y0) * (math.exp(0.2) - 1) / 2
    expected = torch.stack([x0, (y0 - taller).clamp(min=0), x1, (y1 + taller).clamp(max=SIDE)], dim=2)
    torch.testing.assert_close(boxes[real][:, 0], expected[real], atol=1e-3, rtol=1e-4)
    both = names.softmax(dim=1)[:, 1:].mean(dim=0)
    torch.testing.assert_close(scores[real], both.expand(int(real.sum()), 2))


def test_a_later_stage_requires_a_larger_overlap():
    targets = [torch.tensor([[0.0, 0.0, 20.0, 20.0, 1.0]])]
    fits = torch.tensor([[[0.0, 0, 20, 20], [0, 0, 20, 13], [0, 0, 20, 11], [40, 40, 60, 60], [0, 0, 20, 20]]])
    before = torch.tensor([[IGNORED, 0, 0, BACKGROUND, IGNORED]])
    real = torch.tensor([[True, True, True, True, False]])
    valid = torch.ones(1, SIDE, SIDE, dtype=torch.bool)
    regions = SampledProposals(torch.zeros(1, 5, 4), real, before, before, torch.zeros(1, 5, 4))
    for overlap, third in ((0.5, 0), (0.6, BACKGROUND)):  # 11 of 20 rows are an IoU of 0.55
        result = rematch(fits, regions, targets, valid, overlap)
        assert result.matches.tolist() == [[0, 0, third, BACKGROUND, IGNORED]]
        assert result.labels[0, :2].tolist() == [1, 1]
        assert torch.equal(result.boxes, fits)
