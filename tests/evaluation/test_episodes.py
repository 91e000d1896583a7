"""Episodes: how they are sampled, and accuracies that are known in advance."""

import numpy as np
import pytest

from blemish.errors import DataError
from blemish.evaluation.episodes import (
    attention,
    draw_episode,
    evaluate_episodes,
    max_queries,
    nearest_prototype,
    softmax_regression,
    squared_distances,
    summarize_episodes,
)

LABELS = np.repeat(np.arange(4), 10)


def clouds(spread, seed=0):
    rng = np.random.default_rng(seed)
    return np.eye(4)[LABELS] * 10 + spread * rng.standard_normal((40, 4))


def test_support_and_query_never_share_an_image():
    rng = np.random.default_rng(0)
    for _ in range(50):
        episode = draw_episode(LABELS, 3, 2, 5, rng)
        assert episode.support.shape == (3, 2)
        assert episode.query.shape == (3, 5)
        assert len({*episode.support.ravel(), *episode.query.ravel()}) == 21
        assert (LABELS[episode.support] == LABELS[episode.query[:, :1]]).all()
        assert len(np.unique(LABELS[episode.support[:, 0]])) == 3


def test_support_and_query_never_share_a_group():
    rng = np.random.default_rng(0)
    groups = np.concatenate([10 * c + np.array([0, 0, 0, 0, 1, 1, 2, 2, 2, 3]) for c in range(4)])
    queries = max_queries(LABELS, 2, groups)
    assert queries == 3  # the groups of four and of three are support
    for _ in range(50):
        episode = draw_episode(LABELS, 3, 2, queries, rng, groups)
        assert episode.query.shape == (3, 3)
        for known, asked in zip(groups[episode.support], groups[episode.query], strict=True):
            assert len(set(known)) == 2
            assert not set(known) & set(asked)
    with pytest.raises(DataError, match="there are 0"):
        draw_episode(LABELS, 3, 2, queries + 1, rng, groups)
    assert max_queries(LABELS, 4, groups) == 0
    assert max_queries(LABELS, 4) == 6


def test_too_few_images_say_so():
    with pytest.raises(DataError, match="there are 4"):
        draw_episode(LABELS, 5, 1, 1, np.random.default_rng(0))
    with pytest.raises(DataError, match="there are 0"):
        draw_episode(LABELS, 2, 5, 15, np.random.default_rng(0))


@pytest.mark.parametrize("rule", [nearest_prototype, attention, softmax_regression])
def test_separated_classes_are_all_right_and_noise_is_chance(rule):
    apart = evaluate_episodes(clouds(0.1), LABELS, 4, 3, 5, 20, classify=rule)
    assert apart.mean == 1.0
    noise = np.random.default_rng(1).standard_normal((40, 4))
    chance = evaluate_episodes(noise, LABELS, 4, 3, 5, 300, classify=rule)
    assert chance.mean == pytest.approx(0.25, abs=0.05)


def test_interval_covers_what_repeated_draws_give():
    vectors = clouds(6.0)
    actual = evaluate_episodes(vectors, LABELS, 2, 1, 5, 200)
    exact = evaluate_episodes(vectors, LABELS, 2, 1, 5, 3000, seed=9).mean
    assert actual.low - 0.01 < exact < actual.high + 0.01
    half = 1.959964 * np.std(actual.accuracies, ddof=1) / np.sqrt(200)
    assert actual.high - actual.mean == pytest.approx(half, rel=1e-6)


def test_interval_of_one_episode_has_no_width():
    assert summarize_episodes(2, 1, [0.5]).low == summarize_episodes(2, 1, [0.5]).high == 0.5


def test_negative_labels_are_ignored():
    labels = LABELS.copy()
    labels[labels == 3] = -1
    episode = draw_episode(labels, 3, 2, 3, np.random.default_rng(0))
    assert (labels[episode.support] >= 0).all()


def test_distances_agree_with_broadcasting():
    rng = np.random.default_rng(0)
    a, b = rng.random((3, 5)), rng.random((4, 5))
    np.testing.assert_allclose(squared_distances(a, b), ((a[:, None] - b) ** 2).sum(axis=2))
