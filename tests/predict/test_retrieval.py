"""What an encoder's embeddings retrieve: the nearest training windows, whole or place by place, truth unseen."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from support import fields
from torch import nn

from st2llm.predict.preprocess.field import fit_field_preprocessor
from st2llm.predict.retrieval import EmbeddingDistance, predict_from_neighbours
from st2llm.types import TrainingWindows

HISTORY, HORIZON, NODES = 12, 3, 3


class Ends(nn.Module):
    """Embeds each place by the last two values seen of it, and says how many windows it has embedded."""

    def __init__(self) -> None:
        super().__init__()
        self.nothing, self.seen = nn.Parameter(torch.zeros(1)), 0

    def embed(self, batch):
        assert not batch.valid.any()  # nobody shows it a truth
        self.seen += len(batch)
        return batch.values[:, HISTORY - 2 : HISTORY, :, 0].transpose(1, 2)


@pytest.fixture
def train():
    return fields.windows(fields.series(60), history=HISTORY, horizon=HORIZON, stride=3)


@pytest.fixture
def preprocessor(train):
    return fit_field_preprocessor(TrainingWindows(train), skip="none", template=None, slots=NODES)


@pytest.mark.parametrize("each", [False, True])
def test_distances_are_cosines_of_embeddings(train, preprocessor, each):
    measure = EmbeddingDistance(Ends(), preprocessor, TrainingWindows(train), each)
    asked = replace(train[4], id="asked")
    apart = measure.apart(asked, 1, np.arange(len(train)))
    z = preprocessor.collate(train, with_instructions=False).values[:, HISTORY - 2 : HISTORY, :, 0].numpy()
    rows = z[:, :, 1] if each else z.mean(axis=2)
    unit = rows / np.linalg.norm(rows, axis=1, keepdims=True)
    np.testing.assert_allclose(apart, 1 - unit @ unit[4], atol=1e-5)
    assert apart.argmin() == 4


def test_each_window_is_embedded_once(train, preprocessor):
    module = Ends()
    predict_from_neighbours(
        module,
        preprocessor,
        TrainingWindows(train),
        [replace(train[0], id="a"), replace(train[1], id="b")],
        by_place=True,
    )
    assert module.seen == len(train) + 2


def test_what_followed_the_windows_most_alike_is_the_answer(train, preprocessor):
    values = fields.series(90)
    values[:, 2] = np.tile(np.arange(6.0), 15)[:, None]  # every window that ends alike goes on alike
    train = fields.windows(values[:60], history=HISTORY, horizon=HORIZON)
    asked = fields.windows(values[60:], history=HISTORY, horizon=HORIZON, first=fields.MONDAY + 60 * 3600)[0]
    found = predict_from_neighbours(
        Ends(),
        fit_field_preprocessor(TrainingWindows(train), skip="none", template=None, slots=NODES),
        TrainingWindows(train),
        [asked],
        by_place=True,
    )
    np.testing.assert_allclose(found[0].value[HISTORY:, 2], asked.truth[HISTORY:, 2], atol=1e-6)


def test_the_day_that_is_asked_about_is_no_neighbour(train, preprocessor):
    (said,) = predict_from_neighbours(Ends(), preprocessor, TrainingWindows(train), [train[4]], by_place=True)
    assert not np.allclose(said.value[HISTORY:], train[4].truth[HISTORY:])
