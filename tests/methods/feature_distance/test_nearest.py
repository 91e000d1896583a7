"""Search of the memory bank against brute force."""

import numpy as np
import pytest
import torch
from sklearn.neighbors import NearestNeighbors

from blemish.methods.feature_distance import nearest


@pytest.mark.parametrize("chunk", [5, 4096])
def test_nearest_distance_equals_brute_force(monkeypatch, chunk):
    monkeypatch.setattr(nearest, "SEARCH_CHUNK", chunk)
    torch.manual_seed(2)
    x, bank = torch.randn(200, 16), torch.randn(333, 16)
    expected = NearestNeighbors(n_neighbors=1, algorithm="brute").fit(bank.numpy()).kneighbors(x.numpy())[0][:, 0]
    np.testing.assert_allclose(nearest.nearest_distance(x, bank).numpy(), expected, rtol=1e-4)


def test_bank_neighbours_equal_brute_force():
    torch.manual_seed(3)
    bank = torch.randn(120, 6)
    result = nearest.bank_neighbours(bank, 9).numpy()
    expected = NearestNeighbors(n_neighbors=9, algorithm="brute").fit(bank.numpy()).kneighbors(bank.numpy())[1]
    assert [set(row) for row in result] == [set(row) for row in expected]
    assert (result[:, 0] == np.arange(120)).all()
