"""Texts of different rotary frequencies never share a pass, and parts of a text get those of the whole."""

import copy

import pytest
import torch
from support.families import FAMILIES
from transformers import AutoModel

from st2llm.llm.architecture.text_lengths import TextLengths


def base(name):
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return AutoModel.from_config(FAMILIES[name].config(64)).eval()


@pytest.mark.parametrize(
    ("name", "classes"),
    [
        ("llama", [1, 1, 1, 1]),
        ("llama-yarn", [1, 1, 1, 1]),
        ("phi-3-longrope", [1, 1, 33, 33]),
        ("llama-dynamic", [1, 1, 33, 60]),
    ],
)
def test_texts_of_the_same_frequencies_are_of_one_class(name, classes):
    lengths = TextLengths(base(name))
    assert [lengths.class_of(length) for length in (5, 32, 33, 60)] == classes
    assert lengths.matter == (len(set(classes)) > 1)
    groups = list(lengths.groups([60, 5, 33, 32]))
    assert sorted(i for _, members in groups for i in members) == [0, 1, 2, 3]
    assert [key for key, _ in groups] == sorted(set(classes))


@pytest.mark.parametrize("name", ["phi-3-longrope", "llama-dynamic"])
@torch.no_grad()
def test_the_beginning_of_a_text_is_read_as_in_the_whole_text(name):
    model = base(name)
    lengths, ids = TextLengths(model), torch.arange(60)[None] % 64
    for length in (60, 40, 20, 60):
        wanted = copy.deepcopy(base(name))(input_ids=ids[:, :length]).last_hidden_state[:, :8]
        with lengths.reading(lengths.class_of(length)):
            torch.testing.assert_close(model(input_ids=ids[:, :8]).last_hidden_state, wanted)
    assert "forward" not in vars(model.rotary_emb)
