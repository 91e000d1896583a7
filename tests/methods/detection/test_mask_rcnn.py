"""The masks that Mask R-CNN is trained on."""

import torch
import torch.nn.functional as F
from torchvision.ops import roi_align

from blemish.methods.detection.faster_rcnn import SampledProposals


def sampled_from(result, labels, boxes):
    return SampledProposals(boxes, torch.ones_like(result, dtype=torch.bool), result, labels, torch.zeros_like(boxes))


def test_masks_are_trained_only_on_proposals_with_a_defect(make_detector, two_defects):
    method = make_detector("mask-rcnn").eval()
    maps = [m.detach() for m in method.features(two_defects["image"])]
    boxes = torch.tensor([
        [[0, 0, 20, 20], [40, 3, 60, 30], [0, 0, 0, 0]],
        [[7, 9, 29, 27], [30, 30, 62, 60], [3, 40, 20, 60]],
    ], dtype=torch.float32)  # fmt: skip
    result = torch.tensor([[-1, -1, -2], [0, 1, -1]])
    labels = torch.tensor([[-1, -1, -1], [0, 1, -1]])
    masks = two_defects["box_masks"]
    losses = []
    for region in range(2):
        box = boxes[1:, region : region + 1]
        own = method.mask_head(method.mask_pool([m[1:] for m in maps], box))[0, region]
        wanted = roi_align(masks[1][region][None, None].float(), [box[0]], own.shape, 1.0, -1, aligned=True)[0, 0]
        losses.append(F.binary_cross_entropy_with_logits(own, (wanted >= 0.5).float()))
    torch.testing.assert_close(
        method.mask_loss(maps, sampled_from(result, labels, boxes), masks), torch.stack(losses).mean()
    )
    method.train()  # BatchNorm sees no background either
    alone = method.mask_loss(maps, sampled_from(result[:, :2], labels[:, :2], boxes[:, :2]), masks)
    result[:, 0], labels[:, 0] = torch.tensor([-1, 0]), torch.tensor([-1, 0])
    elsewhere = boxes.clone()
    elsewhere[0] = torch.tensor([30.0, 30, 64, 64])
    assert method.mask_loss(maps, sampled_from(result, labels, elsewhere), masks) == alone
    statistics = [value.clone() for value in method.mask_head.buffers()]
    none = method.mask_loss(maps, sampled_from(result.clamp(max=-1), labels, boxes), masks)
    none.backward()
    assert none == 0
    assert all(torch.equal(a, b) for a, b in zip(statistics, method.mask_head.buffers(), strict=True))
