"""Greedy k-centre against the plain loop, and the memory bank's search against brute force."""

import numpy as np
import pytest
import torch
from sklearn.neighbors import NearestNeighbors

from blemish.methods.feature_distance import coreset, patchcore


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
def test_same_picks_as_the_plain_loop(monkeypatch, candidates, clusters):
    monkeypatch.setattr(coreset, "CANDIDATES", candidates)
    torch.manual_seed(candidates + clusters)
    centers = torch.randn(clusters, 24) * 4
    vectors = centers[torch.randint(0, clusters, (2000,))] + torch.randn(2000, 24)
    assert coreset.k_center_greedy(vectors, 300).tolist() == plain_greedy(vectors, 300)


def test_in_place_picks_the_same_without_a_copy():
    vectors = torch.randn(500, 8, generator=torch.Generator().manual_seed(0)) + 3
    expected = coreset.k_center_greedy(vectors, 40)
    assert coreset.k_center_greedy(vectors, 40, in_place=True).tolist() == expected.tolist()
    torch.testing.assert_close(vectors.mean(dim=0), torch.zeros(8), atol=1e-5, rtol=0)


def test_held_vectors_keep_their_order_while_they_outgrow_the_block():
    pieces = [torch.rand(n, 4) for n in (3, 5, 1, 20)]
    held = coreset.Held(6)
    for piece in pieces:
        held.add(piece)
    assert len(held) == 29
    assert torch.equal(held.vectors, torch.cat(pieces))
    held.replace(held.vectors[[28, 2]])
    assert torch.equal(held.vectors, torch.cat(pieces)[[28, 2]])


def test_covers_within_twice_the_best_and_never_repeats():
    torch.manual_seed(0)
    vectors = torch.randn(500, 3).round()  # many duplicates
    picked = coreset.k_center_greedy(vectors, 450)
    assert len(set(picked.tolist())) == 450
    distinct = vectors.unique(dim=0)
    enough = coreset.k_center_greedy(vectors, len(distinct))
    assert coreset.covering_radius(vectors, vectors[enough]) == 0


def test_choice_does_not_depend_on_the_order():
    torch.manual_seed(1)
    vectors = torch.randn(800, 8)
    order = torch.randperm(800)
    one = vectors[coreset.k_center_greedy(vectors, 50)]
    other = vectors[order][coreset.k_center_greedy(vectors[order], 50)]
    torch.testing.assert_close(one, other)


@pytest.mark.parametrize("chunk", [5, 4096])
def test_search_finds_the_nearest(monkeypatch, chunk):
    monkeypatch.setattr(patchcore, "SEARCH_CHUNK", chunk)
    torch.manual_seed(2)
    x, bank = torch.randn(200, 16), torch.randn(333, 16)
    expected = NearestNeighbors(n_neighbors=1, algorithm="brute").fit(bank.numpy()).kneighbors(x.numpy())[0][:, 0]
    np.testing.assert_allclose(patchcore.nearest_distance(x, bank).numpy(), expected, rtol=1e-4)


def test_neighbours_within_the_bank():
    torch.manual_seed(3)
    bank = torch.randn(120, 6)
    found = patchcore.nearest_within(bank, 9).numpy()
    expected = NearestNeighbors(n_neighbors=9, algorithm="brute").fit(bank.numpy()).kneighbors(bank.numpy())[1]
    assert [set(row) for row in found] == [set(row) for row in expected]
    assert (found[:, 0] == np.arange(120)).all()


@pytest.mark.parametrize(("patches", "kept"), [(512, 512), (3000, 2000), (300_000, 3000)])
def test_a_few_images_leave_a_bank_that_tells_something(patches, kept):
    """One in a hundred is for hundreds of images; of two it would leave five patches."""
    method = patchcore.PatchCore(
        patchcore.PatchCoreOptions(image_size=64, weights="random", backbone="test_resnet"), ()
    )
    assert min(patches, method._target(patches)) == kept
