"""Episodes sampled from batches."""

import torch

from blemish.methods.few_shot.embedding import sample_episode


def test_episodes_of_a_batch():
    labels = torch.tensor([0, 0, 0, 0, 1, 1, 2, -1, 3, 3, 3])
    for seed in range(10):
        torch.manual_seed(seed)
        episode = sample_episode(labels, ways=2, shots=1)
        assert episode.ways == 2
        assert len(episode.support) == 2
        assert not set(episode.support.tolist()) & set(episode.query.tolist())
        for places, own in ((episode.support, episode.support_labels), (episode.query, episode.query_labels)):
            for number in range(2):
                assert len(labels[places[own == number]].unique()) == 1
        assert set(labels[episode.support].tolist()) <= {0, 1, 3}  # 2 has one image, -1 no class
    assert sample_episode(torch.tensor([0, 0, 1, -1]), 2, 1) is None
