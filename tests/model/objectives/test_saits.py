"""SAITS starts from a straight line, estimates each step from the others, and learns what the line does not know."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from support import fields

from st2llm.encode.field import FieldShape
from st2llm.encode.field_batch import fit_note_vocabulary, stack_fields
from st2llm.encode.scaler import fit_scaler
from st2llm.model.objectives.saits import DiagonallyMaskedLayer, Saits, SaitsObjective, interpolate
from st2llm.train.loop.budget import Budget
from st2llm.train.loop.trainer import fit
from st2llm.types import TrainingWindows

SCALE = torch.tensor([[10.0], [5.0], [20.0]])


def batch(count=24):
    samples = TrainingWindows(fields.windows(fields.series(120), history=8, horizon=4, stride=3)[:count])
    return stack_fields(samples, fit_scaler(samples), fit_note_vocabulary(samples))


def model(**changes):
    sizes = {"width": 16, "layers": 1, "dropout": 0.0, "seed": 0, **changes}
    return Saits(FieldShape(12, 12, 3, 1, 24, amid=True), **sizes)


def test_a_line_is_that_of_numpy_and_nought_where_nothing_is_visible():
    generator = torch.Generator().manual_seed(0)
    values = torch.randn(4, 12, 3, 1, generator=generator)
    visible = torch.rand(values.shape, generator=generator) < 0.4
    visible[0, :, 0] = False
    line = interpolate(values, visible)
    for b, n in np.ndindex(4, 3):
        at = visible[b, :, n, 0].numpy()
        known = values[b, :, n, 0].numpy()[at]
        expected = np.interp(np.arange(12), np.flatnonzero(at), known) if at.any() else np.zeros(12)
        np.testing.assert_allclose(line[b, :, n, 0], expected, atol=1e-5)


def test_an_untrained_model_answers_with_the_line():
    drawn = SaitsObjective(SCALE, ratio=0.4, observed=1.0).draw(batch(), torch.Generator().manual_seed(1))
    torch.testing.assert_close(model()(drawn), interpolate(drawn.values, drawn.visible))


def test_no_step_attends_to_itself():
    _, weights = DiagonallyMaskedLayer(16, dropout=0.0)(torch.randn(2, 6, 16))
    assert weights.diagonal(dim1=1, dim2=2).abs().max() == 0
    torch.testing.assert_close(weights.sum(dim=2), torch.ones(2, 6))


def test_parts_of_a_batch_add_up_to_the_loss_of_the_whole():
    objective = SaitsObjective(SCALE, ratio=0.25, observed=0.5)
    drawn, arm = objective.draw(batch(), torch.Generator().manual_seed(1)), model()
    torch.nn.init.normal_(arm.first.leave.weight)
    whole = objective.totals(arm, drawn)["saits"]
    parts = sum(objective.totals(arm, drawn.take(rows))["saits"] for rows in (range(7), range(7, len(drawn))))
    torch.testing.assert_close(whole, parts)
    assert objective.counts(drawn)["saits"] == drawn.valid.sum() > 0


def test_by_place_no_place_depends_on_another_and_all_share_the_weights():
    arm = model(per_place=True)
    for block in (arm.first, arm.second):
        torch.nn.init.normal_(block.leave.weight, generator=torch.Generator().manual_seed(2))
    drawn = SaitsObjective(SCALE, ratio=0.4, observed=1.0).draw(batch(), torch.Generator().manual_seed(1))
    whole = arm(drawn)
    assert whole.shape == drawn.values.shape
    for order in ([2, 0, 1], [0]):
        names = ("values", "visible", "base", "target", "valid")
        moved = replace(drawn, **{name: getattr(drawn, name)[:, :, order] for name in names})
        torch.testing.assert_close(arm(moved), whole[:, :, order])


@pytest.mark.slow
def test_it_learns_a_wave_that_a_line_cuts_through():
    data, objective = batch(), SaitsObjective(SCALE, ratio=0.5, observed=1.0)
    got = fit(model(), data, data, Budget(300, 12, 1e-2, evaluations=4), objective=objective, seed=0)
    assert got.curve.best < 0.92 * got.curve.initial
