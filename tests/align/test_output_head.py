"""Number heads add nothing before they are trained, and keep shapes."""

import torch
from support import fields

from st2llm.align.output_head import FlattenHead, NextPatchHead, ValueHead, roll_out
from st2llm.encode.field_batch import FieldBatch, NoteVocabulary, stack_fields
from st2llm.encode.scaler import fit_scaler
from st2llm.types import TrainingWindows


def test_numbers_are_zero_before_training():
    got = ValueHead(8, context=0, horizon=5, channels=2).correction(torch.randn(4, 3, 8))
    assert got.shape == (4, 5, 3, 2)
    assert not got.any()


def test_nothing_is_said_of_steps_that_are_never_asked_for():
    head = ValueHead(8, context=3, horizon=2, channels=1)
    torch.nn.init.normal_(head.out.weight)
    got = head.correction(torch.randn(4, 5, 8))
    assert got.shape == (4, 5, 5, 1)
    assert not got[:, :3].any()
    assert got[:, 3:].all()


def test_numbers_of_a_place_come_from_that_place():
    torch.manual_seed(0)
    head = ValueHead(8, context=0, horizon=5, channels=2)
    torch.nn.init.normal_(head.out.weight)
    z = torch.randn(4, 3, 8)
    other = z.clone()
    other[:, 1, 0] += 1
    moved = (head.correction(z) - head.correction(other)).abs().amax(dim=(0, 1, 3))
    assert moved[1] > 0.01
    assert (moved[0], moved[2]) == (0, 0)


def test_steps_and_channels_of_the_last_layer_are_in_order():
    head = ValueHead(8, context=0, horizon=2, channels=3)
    with torch.no_grad():
        head.out.bias.copy_(torch.arange(6.0))
    assert head.correction(torch.zeros(1, 1, 8))[0, :, 0].tolist() == [[0, 1, 2], [3, 4, 5]]


def windows(count=2, *, history=6, horizon=4) -> FieldBatch:
    given = fields.windows(fields.series(30), history=history, horizon=horizon)[:count]
    return stack_fields(given, fit_scaler(TrainingWindows(given)), NoteVocabulary(()))


def test_a_flatten_head_reads_all_tokens_of_its_place_and_of_no_other():
    torch.manual_seed(0)
    batch = windows()
    head = FlattenHead(4, ValueHead(4 * 8, context=6, horizon=4, channels=1, linear=True))
    torch.nn.init.normal_(head.out.weight)
    z = torch.randn(2, 3 * 4, 8)
    for token in range(4, 8):  # of the second place
        other = z.clone()
        other[:, token] += 1
        moved = (head(z, batch) - head(other, batch)).abs().amax(dim=(0, 1, 3))
        assert moved[1] > 0.01
        assert (moved[0], moved[2]) == (0, 0)


def test_corrections_under_an_instance_norm_are_in_standard_deviations_of_the_window():
    batch = windows()
    head = ValueHead(8, context=6, horizon=4, channels=1, linear=True, instance_norm=True)
    torch.nn.init.ones_(head.out.bias)
    spread = batch.instance_statistics()[1]
    expected = batch.base[:, 6:] + spread.expand(-1, 4, -1, -1)
    torch.testing.assert_close(head(torch.randn(2, 3, 8), batch)[:, 6:], expected)


def test_each_patch_predicts_the_next_one():
    torch.manual_seed(0)
    batch = windows()
    head = NextPatchHead(8, tokens=4, patch=2, channels=1, instance_norm=False)
    torch.nn.init.normal_(head.out.weight)
    z = torch.randn(2, 3 * 4, 8)
    for token, steps in [(0, [2, 3]), (1, [4, 5]), (2, [6, 7]), (3, [])]:  # the last is the query
        other = z.clone()
        other[:, token] += 1
        moved = (head(z, batch) - head(other, batch)).abs().amax(dim=(0, 2, 3)) > 1e-6
        assert moved.nonzero()[:, 0].tolist() == steps


def test_a_roll_out_reads_what_it_predicted_and_stops_at_the_horizon():
    batch, seen = windows(horizon=5), []

    def last_plus_one(window):
        seen.append(window.visible.all(dim=0).all(dim=1)[:, 0].tolist())
        ahead = window.values[:, 5:6] + torch.arange(1, window.values.shape[1] - 5)[:, None, None]
        return torch.cat([torch.zeros_like(window.values[:, :6]), ahead], dim=1)

    rolled = roll_out(last_plus_one, batch, history=6, patch=2)
    assert [len(window) for window in seen] == [8, 8, 7]
    assert all(window == [True] * 6 + [False] * (len(window) - 6) for window in seen)
    torch.testing.assert_close(rolled[:, 6:], batch.values[:, 5:6] + torch.arange(1.0, 6.0)[:, None, None])
