"""What an arm costs is counted, not guessed."""

import pytest
import torch
from support.fields import series, windows
from torch import nn

from st2llm.encode.field_batch import fit_note_vocabulary, stack_fields
from st2llm.encode.layers.linear import Linear
from st2llm.encode.scaler import fit_scaler
from st2llm.evaluate.run.cost import Cost, count_flops, count_parameters
from st2llm.types import TrainingWindows


class Matrix(nn.Module):
    """One matrix product of known size: [history] -> [horizon] at each place."""

    def __init__(self):
        super().__init__()
        self.map = nn.Linear(24, 6, bias=False)

    def forward(self, batch):
        return self.map(batch.values[:, :24, :, 0].transpose(1, 2)).transpose(1, 2)[..., None]


@pytest.fixture
def batch():
    samples = windows(series(60), history=24, horizon=6)
    return stack_fields(
        samples[:1], fit_scaler(TrainingWindows(samples)), fit_note_vocabulary(TrainingWindows(samples))
    )


def test_flops_of_a_matrix_product_are_two_a_weight_and_row(batch):
    assert count_flops(Matrix(), batch) == 2 * 3 * 24 * 6


def test_counting_flops_leaves_no_gradient(batch):
    arm = Matrix()
    count_flops(arm, batch)
    assert arm.map.weight.grad is None


def test_frozen_parameters_count_in_all_but_not_in_trained():
    net = nn.Sequential(nn.Linear(3, 5), nn.Linear(5, 2))
    net[0].requires_grad_(False)
    assert count_parameters(net) == (20 + 12, 12)


def test_a_parameter_used_twice_counts_once():
    net = nn.Sequential(nn.Linear(4, 4, bias=False), nn.Linear(4, 4, bias=False))
    net[1].weight = net[0].weight
    assert count_parameters(net) == (16, 16)


def test_a_cost_card_has_every_promised_field_and_none_where_it_does_not_apply():
    promised = "params_total params_trained flops train_s predict_s_per_sample tokens_in tokens_out peak_mb"
    assert list(Cost().to_json()) == promised.split()
    assert set(Cost().to_json().values()) == {None}
    assert torch.is_grad_enabled()


def test_flops_of_a_layer_by_onednn_are_those_of_torchs():
    class Wide(nn.Module):
        def __init__(self, make):
            super().__init__()
            self.map = make(256, 128)

        def forward(self, rows):
            return self.map(rows)

    rows = torch.zeros(512, 256)
    assert count_flops(Wide(Linear), rows) == count_flops(Wide(nn.Linear), rows) == 2 * 512 * 256 * 128
