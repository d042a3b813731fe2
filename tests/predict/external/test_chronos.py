"""Chronos' tokens are those of its paper, and a T5 of any size in its layout on disk answers samples with draws.

The weights here are tiny and drawn at random: this tests the mechanism, and says nothing of Chronos' forecasts.
"""

import numpy as np
import pytest
import torch
from support import fields
from transformers import T5Config, T5ForConditionalGeneration

from st2llm.errors import ArtefactError, ConfigError, DataError
from st2llm.predict.external.chronos import Bins
from st2llm.predict.external.pretrained import load_model

HISTORY, HORIZON = 12, 5
BINS = Bins(low=-15.0, high=15.0, tokens=4096, special=2)
SETTINGS = {
    "tokenizer_class": "MeanScaleUniformBins",
    "tokenizer_kwargs": {"low_limit": -15.0, "high_limit": 15.0},
    "n_tokens": 64,
    "n_special_tokens": 2,
    "pad_token_id": 0,
    "eos_token_id": 1,
    "use_eos_token": True,
    "model_type": "seq2seq",
    "context_length": 10,
    "prediction_length": 3,
    "num_samples": 4,
    "temperature": 1.0,
    "top_k": 50,
    "top_p": 1.0,
}


def save(folder, **more):
    torch.manual_seed(0)
    config = T5Config(
        vocab_size=64,
        d_model=16,
        d_kv=8,
        d_ff=16,
        num_layers=1,
        num_heads=2,
        decoder_start_token_id=0,
        **more,
    )
    T5ForConditionalGeneration(config).save_pretrained(folder)
    return str(folder)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return save(tmp_path_factory.mktemp("chronos-tiny"), chronos_config=SETTINGS)


def samples(count=2):
    return fields.windows(fields.series(40), history=HISTORY, horizon=HORIZON)[:count]


def test_values_are_divided_by_their_mean_size_and_a_gap_is_no_reading():
    ids, seen, scale = BINS.encode(torch.tensor([[2.0, -4.0, float("nan"), 6.0]]))
    assert scale.tolist() == [4.0]
    assert seen.tolist() == [[True, True, False, True, True]]
    assert ids[0, 2] == BINS.pad and ids[0, -1] == BINS.end
    back = BINS.decode(ids[:, :4]) * scale
    np.testing.assert_allclose(back[0, [0, 1, 3]], [2.0, -4.0, 6.0], atol=4 * 30 / 4092 / 2 + 1e-6)


def test_what_lies_beyond_the_outermost_bins_falls_into_them():
    """The lowest bin is token 3 and the highest 4095, as in the authors' package (chronos-forecasting 1.5.3)."""
    ids, _, scale = BINS.encode(torch.tensor([[1e6, -1e6] + [0.0] * 198]))
    assert scale.tolist() == [1e4]
    assert ids[0, :2].tolist() == [4095, 3]
    assert BINS.decode(ids[:, :2]).tolist() == [[15.0, -15.0]]


def test_a_series_of_zeros_keeps_a_scale_of_one():
    assert BINS.encode(torch.zeros(1, 5))[2].tolist() == [1.0]


def test_draws_reach_past_one_block_and_their_median_is_the_value(folder):
    (answer,) = load_model(f"chronos:{folder}", name="tiny").predict(samples(1))
    (sample,) = samples(1)
    assert answer.samples.shape == (4, *sample.values.shape)
    assert np.isfinite(answer.samples[:, sample.wanted]).all()
    assert np.isnan(answer.samples[:, ~sample.wanted]).all()
    np.testing.assert_array_equal(answer.value, np.median(answer.samples, axis=0))


def test_the_draws_of_a_sample_depend_on_nothing_else(folder):
    model = load_model(f"chronos:{folder}", name="tiny")
    alone = model.predict(samples(2)[1:])[0]
    torch.manual_seed(99)
    np.testing.assert_array_equal(alone.samples, model.predict(samples(2))[1].samples)


def test_another_kind_of_model_is_refused(tmp_path):
    with pytest.raises(ConfigError, match=r"should be a Chronos-T5 .* without chronos_config"):
        load_model(f"chronos:{save(tmp_path / 't5')}", name="x")
    bolt = save(tmp_path / "bolt", chronos_config={"context_length": 10})
    with pytest.raises(ConfigError, match="with another chronos_config"):
        load_model(f"chronos:{bolt}", name="x")


def test_a_folder_without_weights_is_named(tmp_path):
    (tmp_path / "empty").mkdir()
    with pytest.raises(ArtefactError, match=r"Chronos weights .*empty.* cannot be read"):
        load_model(f"chronos:{tmp_path / 'empty'}", name="x")


def test_a_history_without_readings_is_refused(folder):
    sample = samples(1)[0]
    sample.values[:HISTORY, 1] = np.nan
    with pytest.raises(DataError, match="has fewer than 2 readings in its 12 steps"):
        load_model(f"chronos:{folder}", name="tiny").predict([sample])
