"""Greedy k-centre selection against a plain loop."""

import pytest
import torch

from blemish.methods.feature_distance import coreset


def plain_greedy(vectors: torch.Tensor, count: int) -> list[int]:
    x = vectors.double() - vectors.double().mean(dim=0)
    picked = [int((x * x).sum(dim=1).argmin())]
    distance = ((x - x[picked[0]]) ** 2).sum(dim=1)
    while len(picked) < count:
        distance[picked[-1]] = -1
        picked.append(int(distance.argmax()))
        distance = torch.minimum(distance, ((x - x[picked[-1]]) ** 2).sum(dim=1))
    return picked


@pytest.mark.parametrize("candidates", [1, 7, 64, 5000])
@pytest.mark.parametrize("clusters", [3, 2000])
def test_greedy_selection_equals_a_plain_loop(monkeypatch, candidates, clusters):
    monkeypatch.setattr(coreset, "CANDIDATES", candidates)
    torch.manual_seed(candidates + clusters)
    centers = torch.randn(clusters, 24) * 4
    vectors = centers[torch.randint(0, clusters, (2000,))] + torch.randn(2000, 24)
    assert coreset.k_center_greedy(vectors, 300).tolist() == plain_greedy(vectors, 300)


def test_in_place_selection_is_the_same():
    vectors = torch.randn(500, 8, generator=torch.Generator().manual_seed(0)) + 3
    expected = coreset.k_center_greedy(vectors, 40)
    assert coreset.k_center_greedy(vectors, 40, in_place=True).tolist() == expected.tolist()
    torch.testing.assert_close(vectors.mean(dim=0), torch.zeros(8), atol=1e-5, rtol=0)


def test_growing_buffer_keeps_the_order_beyond_its_capacity():
    pieces = [torch.rand(n, 4) for n in (3, 5, 1, 20)]
    buffer = coreset.GrowingBuffer(6)
    for piece in pieces:
        buffer.add(piece)
    assert len(buffer) == 29
    assert torch.equal(buffer.vectors, torch.cat(pieces))
    buffer.replace(buffer.vectors[[28, 2]])
    assert torch.equal(buffer.vectors, torch.cat(pieces)[[28, 2]])


def test_selection_covers_all_distinct_vectors_without_repeats():
    torch.manual_seed(0)
    vectors = torch.randn(500, 3).round()  # many duplicates
    picked = coreset.k_center_greedy(vectors, 450)
    assert len(set(picked.tolist())) == 450
    distinct = vectors.unique(dim=0)
    enough = coreset.k_center_greedy(vectors, len(distinct))
    assert float(torch.cdist(vectors, vectors[enough]).amin(dim=1).max()) == 0


def test_selection_does_not_depend_on_the_order():
    torch.manual_seed(1)
    vectors = torch.randn(800, 8)
    order = torch.randperm(800)
    one = vectors[coreset.k_center_greedy(vectors, 50)]
    other = vectors[order][coreset.k_center_greedy(vectors[order], 50)]
    torch.testing.assert_close(one, other)
