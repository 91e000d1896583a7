"""SimOTA against the paper's rule in plain loops."""

import math

import pytest
import torch
from torchvision.ops import box_iou

from blemish.methods.detection.matching import BACKGROUND
from blemish.methods.detection.sim_ota import assign_sim_ota


def assign_in_plain_loops(points, strides, boxes, scores, targets):
    """Ge et al. 2021 in plain loops: {location: box}."""
    centres = (targets[:, :2] + targets[:, 2:4]) / 2
    inside = [[bool((p > t[:2]).all() and (p < t[2:4]).all()) for p in points] for t in targets]
    near = [
        [float((p - c).abs().max()) < 2.5 * float(s) for p, s in zip(points, strides, strict=True)] for c in centres
    ]
    usable = [k for k in range(len(points)) if any(i[k] or n[k] for i, n in zip(inside, near, strict=True))]
    iou = box_iou(targets[:, :4], boxes)
    cost = {}
    for m, t in enumerate(targets):
        for k in usable:
            wanted = [float(c == int(t[4])) for c in range(scores.shape[1])]
            given = [min(max(float(s), 1e-6), 1 - 1e-6) for s in scores[k]]
            named = -sum(w * math.log(g) + (1 - w) * math.log(1 - g) for w, g in zip(wanted, given, strict=True))
            far = 0 if inside[m][k] and near[m][k] else 1e5
            cost[m, k] = named - 3 * math.log(float(iou[m, k]) + 1e-8) + far
    takers: dict[int, list[int]] = {}
    for m in range(len(targets)):
        best = sorted((float(iou[m, k]) for k in usable), reverse=True)[:10]
        for k in sorted(usable, key=lambda k: cost[m, k])[: max(1, int(sum(best)))]:
            takers.setdefault(k, []).append(m)
    return {k: min(range(len(targets)), key=lambda m: cost[m, k]) if len(ms) > 1 else ms[0] for k, ms in takers.items()}


@pytest.mark.parametrize("seed", range(3))
def test_sim_ota_equals_the_papers_rule(seed, random_targets, locations):
    points, strides = locations
    targets = random_targets(4, seed)
    boxes = torch.cat([points - 12, points + 12], dim=1) + torch.randn(len(points), 4)
    scores = torch.rand(len(points), 3)
    matches = assign_sim_ota(points, strides, boxes, scores, targets)
    expected = assign_in_plain_loops(points, strides, boxes, scores, targets)
    assert {k: m for k, m in enumerate(matches.tolist()) if m != BACKGROUND} == expected


def test_sim_ota_of_a_good_image_assigns_nothing(locations):
    points, strides = locations
    boxes, scores = torch.rand(len(points), 4), torch.rand(len(points), 3)
    assert (assign_sim_ota(points, strides, boxes, scores, torch.zeros(0, 5)) == BACKGROUND).all()
