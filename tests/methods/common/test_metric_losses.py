"""Metric-learning losses: against formulas by hand, and all of them on whether they pull classes apart."""

import pytest
import torch
import torch.nn.functional as F

from blemish.methods.common.metric_losses import METRIC_LOSSES, CentreLoss, PrototypeLoss, metric_loss, split_halves


@pytest.mark.parametrize("name", METRIC_LOSSES)
def test_learning_pulls_classes_apart(name):
    torch.manual_seed(0)
    labels = torch.arange(3).repeat(6)
    points = torch.randn(18, 8, requires_grad=True)
    loss = metric_loss(name, 3, 8)
    optimizer = torch.optim.Adam([points, *loss.parameters()], lr=0.05)

    def separation():
        unit = F.normalize(points.detach(), dim=1)
        same = labels[:, None] == labels[None]
        between = torch.cdist(unit, unit)
        return float(between[~same].mean() / between[same].mean())

    before = separation()
    for _ in range(60):
        optimizer.zero_grad()
        loss(points, labels).backward()
        optimizer.step()
    assert separation() > 1.4 * before


def test_halves_share_out_each_class():
    labels = torch.tensor([0, 0, 0, 1, 1, 2])
    first, rest = split_halves(labels)
    assert sorted([*first.tolist(), *rest.tolist()]) == list(range(6))
    assert labels[first].bincount().tolist() == [2, 1, 1]


def test_prototype_loss_by_hand():
    torch.manual_seed(0)
    points = F.normalize(torch.randn(4, 5), dim=1)
    labels = torch.tensor([4, 4, 7, 7])
    torch.manual_seed(3)
    support, query = split_halves(labels)
    expected = 0.0
    for q in query:
        logits = torch.stack([-10 * (points[q] - points[s]).square().sum() for s in support])
        own = [int(labels[s]) for s in support].index(int(labels[q]))
        expected += -logits.log_softmax(0)[own] / len(query)
    torch.manual_seed(3)
    assert PrototypeLoss(10.0)(points, labels).item() == pytest.approx(float(expected), rel=1e-5)


def test_without_queries_the_loss_is_zero_and_has_gradients():
    points = torch.randn(3, 4, requires_grad=True)
    loss = PrototypeLoss()(points, torch.tensor([0, 1, 2]))
    loss.backward()
    assert loss.item() == 0


def test_centre_loss_by_hand():
    loss = CentreLoss(2, 3)
    points = F.normalize(torch.randn(4, 3), dim=1)
    labels = torch.tensor([0, 1, 1, 0])
    expected = sum(0.5 * ((p - loss.centres[k]) ** 2).sum() for p, k in zip(points, labels, strict=True)) / 4
    assert loss(points, labels).item() == pytest.approx(expected.item(), rel=1e-5)
