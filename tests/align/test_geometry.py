"""Measures of alignment against answers that are known."""

import numpy as np
import pytest

from st2llm.align import geometry
from st2llm.errors import AlignmentError

X = np.random.default_rng(0).normal(size=(60, 8))
ROTATION, _ = np.linalg.qr(np.random.default_rng(1).normal(size=(8, 8)))


@pytest.fixture
def rng():
    return np.random.default_rng(2)


def test_cka_is_one_of_a_rotation_and_about_nought_of_noise(rng):
    assert geometry.cka(X, 3 * X @ ROTATION + 5) == pytest.approx(1.0, abs=1e-9)
    noise = [geometry.cka(X, rng.normal(size=(60, 300))) for _ in range(20)]
    assert abs(np.mean(noise)) < 0.05  # the biased estimator would say about 0.6 here


def test_cka_needs_four_samples():
    with pytest.raises(AlignmentError, match="four samples at least, but there are 3"):
        geometry.cka(X[:3], X[:3])


def test_rsa_is_one_of_what_keeps_distances_and_about_nought_of_noise(rng):
    assert geometry.rsa(X, X @ ROTATION) == pytest.approx(1.0)
    assert abs(geometry.rsa(X, rng.normal(size=(60, 8)))) < 0.1


def test_retrieval_finds_its_own_among_the_k_nearest(rng):
    assert geometry.retrieval_hits(X, X, 1).mean() == 1
    assert geometry.retrieval_hits(X, -X, 1).mean() == 0
    order = rng.permutation(60)
    assert geometry.retrieval_hits(X, X[order], 60).mean() == 1
    assert geometry.retrieval_hits(X, X[order], 1).mean() < 0.1


def test_equal_labels_count_as_each_others_own():
    x = np.array([[1.0, 0], [1.0, 0.01], [-1.0, 0], [-1.0, 0.01]])
    y = x[[1, 0, 3, 2]]
    assert geometry.retrieval_hits(x, y, 1).mean() == 0
    assert geometry.retrieval_hits(x, y, 1, labels=["a", "a", "b", "b"]).mean() == 1


def test_the_modality_gap_is_between_nought_and_two():
    assert geometry.modality_gap(X, X) == 0
    away = np.zeros((60, 8))
    away[:, 0] = 100
    assert geometry.modality_gap(X + away, X - away) == pytest.approx(2.0, abs=0.01)


@pytest.mark.parametrize("rank", [1, 3, 8])
def test_effective_rank_counts_directions_of_equal_size(rng, rank):
    rows = np.zeros((400, 8))
    rows[:, :rank] = np.linalg.qr(rng.normal(size=(400, rank)) - 0)[0]
    rows[:, :rank] -= rows[:, :rank].mean(axis=0)
    assert geometry.effective_rank(rows) == pytest.approx(rank, rel=0.02)


def test_a_probe_transfers_where_both_sides_say_it_in_the_same_direction(rng):
    labels = ["rise" if i // 2 % 2 else "fall" for i in range(60)]
    sign = np.array([1.0 if name == "rise" else -1.0 for name in labels])
    x, y = rng.normal(size=(2, 60, 8))
    x[:, 0], y[:, 0] = 40 * sign + 7, 5 * sign
    got, usual = geometry.probe_transfer(x, y, labels)
    assert got == 1
    assert usual == 0.5
    turned = x.copy()
    turned[:, 0] = -turned[:, 0]
    assert geometry.probe_transfer(turned, y, labels)[0] == 0


def test_a_probe_needs_two_labels():
    with pytest.raises(AlignmentError, match="two labels"):
        geometry.probe_transfer(X, X, ["same"] * 60)


def test_an_estimate_holds_its_value_and_says_what_chance_gives(rng):
    y = X + 0.5 * rng.normal(size=X.shape)
    found = geometry.estimate(geometry.cka, X, y)
    assert found.low < found.value < found.high
    assert abs(found.permuted) < 0.05
    assert 0 < found.permuted_high < found.low
    noise = geometry.estimate(geometry.cka, X, rng.normal(size=X.shape))
    assert noise.low < noise.permuted_high


@pytest.mark.slow
def test_the_interval_covers_what_the_measure_is_of_many_samples():
    """Of 40 small draws, nearly all intervals hold the value of a large one."""

    def draw(n, rng):
        z = rng.normal(size=(n, 4))
        return z, z + rng.normal(size=(n, 4))

    truth = geometry.cka(*draw(4000, np.random.default_rng(1)))
    found = [geometry.estimate(geometry.cka, *draw(50, np.random.default_rng(10 + i))) for i in range(40)]
    assert sum(one.low <= truth <= one.high for one in found) >= 34


def test_the_nearest_words_are_the_nearest_rows():
    table = np.eye(8)
    tokens = np.array([[0.1, 9, 1, 0, 0, 0, 0, 0]])
    assert geometry.nearest_words(tokens, table, 3).tolist() == [[1, 2, 0]]
