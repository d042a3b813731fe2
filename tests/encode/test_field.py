"""The field encoder sees each window by itself, all of its past and none of its future, and learns."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from support import fields, weather

from st2llm import tasks
from st2llm.config.model import EncoderSettings
from st2llm.data.windows import split
from st2llm.encode.field import FieldEncoder, FieldEncoderOptions, FieldShape, edges_of, patch_count
from st2llm.encode.field_batch import FieldBatch, fit_note_vocabulary, stack_fields
from st2llm.encode.scaler import fit_scaler
from st2llm.errors import ConfigError
from st2llm.predict.preprocess.field import fit_field_preprocessor
from st2llm.types import Edges, TrainingWindows

HISTORY, HORIZON, NODES = 12, 3, 3
NOTES = ["big crowd", "", "nobody here today", "crowd", "nobody"]
LONELY = Edges(np.zeros(0, np.int64), np.zeros(0, np.int64), np.zeros(0))


def batch_of(count=5, *, future: float | None = None) -> FieldBatch:
    values = fields.series(30)
    values[[4, 9, 13], [0, 2, 1]] = np.nan
    given = fields.noted(fields.windows(values, history=HISTORY, horizon=HORIZON)[:count], NOTES[:count])
    scaler, words = fit_scaler(TrainingWindows(given)), fit_note_vocabulary(TrainingWindows(given))
    if future is not None:
        given = [fields.with_truth(sample, future) for sample in given]
    return stack_fields(given, scaler, words)


def encoder(tokens="place", graph="gat", *, patch=4, layers=1, edges=fields.EDGES, d_st=16) -> FieldEncoder:
    shape = FieldShape(HISTORY, HORIZON, NODES, 1, 24, note_words=8)
    torch.manual_seed(0)
    return FieldEncoder(
        shape, edges, FieldEncoderOptions(d_st=d_st, patch=patch, layers=layers, graph=graph, tokens=tokens)
    )


def scaling(also=("month",), **changes) -> FieldEncoder:
    """An encoder in which what is told beside the values scales them, with gates that are open unevenly."""
    shape = FieldShape(HISTORY, HORIZON, NODES, 1, 24, note_words=8)
    torch.manual_seed(0)
    made = FieldEncoder(
        shape,
        fields.EDGES,
        FieldEncoderOptions(
            d_st=16,
            patch=4,
            layers=0,
            graph="none",
            tokens="place",
            mixer="mlp",
            extra_features=also,
            fusion="scale",
            **changes,
        ),
    )
    torch.nn.init.normal_(made.embed.gate[-1].weight)
    return made


def masked(count=5, *, share=0.3) -> FieldBatch:
    """Windows of which entries are hidden and asked for amid the others."""
    whole = batch_of(count)
    draw = torch.rand(whole.visible.shape, generator=torch.Generator().manual_seed(0))
    return whole.mask_out(draw < share)


LAYOUTS = [(tokens, graph) for tokens in ("place", "patch") for graph in ("gat", "gcn")]


@pytest.mark.parametrize(("tokens", "graph"), LAYOUTS)
@pytest.mark.parametrize(("patch", "patches"), [(4, 3), (5, 3), (12, 1), (1, 12), (30, 1)])
def test_a_place_is_one_token_or_its_patches_and_a_question(tokens, graph, patch, patches):
    made = encoder(tokens, graph, patch=patch)
    assert made.slots == (NODES if tokens == "place" else NODES * (patches + 1))
    assert made(batch_of()).shape == (5, made.slots, 16)


@pytest.mark.parametrize(("tokens", "graph"), LAYOUTS)
@pytest.mark.parametrize("patch", [4, 5])
def test_a_window_in_a_batch_is_the_window_alone(tokens, graph, patch):
    made, batch = encoder(tokens, graph, patch=patch), batch_of()
    with torch.no_grad():
        whole = made(batch)
        for i in range(5):
            torch.testing.assert_close(whole[i : i + 1], made(batch.take([i])), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(("tokens", "graph"), LAYOUTS)
def test_the_order_of_a_batch_is_the_order_of_its_output(tokens, graph):
    made, batch, order = encoder(tokens, graph), batch_of(), [3, 0, 4, 1, 2]
    with torch.no_grad():
        torch.testing.assert_close(made(batch.take(order)), made(batch)[order], rtol=1e-4, atol=1e-5)


def test_the_last_token_of_a_place_is_what_it_is_when_a_place_is_one_token():
    one, many = encoder("place"), encoder("patch")
    many.load_state_dict(one.state_dict())
    with torch.no_grad():
        torch.testing.assert_close(many(batch_of())[:, 3::4], one(batch_of()))


@pytest.mark.parametrize("tokens", ["place", "patch"])
@pytest.mark.parametrize("future", [0.0, 1e6, np.nan])
def test_no_future_value_changes_the_output(tokens, future):
    made = encoder(tokens)
    with torch.no_grad():
        assert torch.equal(made(batch_of()), made(batch_of(future=future)))


def test_neither_words_nor_base_nor_target_reach_the_encoder():
    made, batch = encoder(), batch_of()
    other = replace(
        batch,
        prompts=("x",) * 5,
        base=batch.base + 9,
        target=batch.target - 9,
        valid=~batch.valid,
    )
    with torch.no_grad():
        assert torch.equal(made(batch), made(other))


@pytest.mark.parametrize("step", [0, 5, HISTORY - 1])
@pytest.mark.parametrize("patch", [4, 5])
def test_every_step_of_the_past_changes_the_output(step, patch):
    made, batch = encoder(patch=patch), batch_of(1)
    values = batch.values.clone()
    values[0, step] += 1
    with torch.no_grad():
        assert not torch.allclose(made(batch), made(replace(batch, values=values)), atol=1e-4)


@pytest.mark.parametrize("change", ["visible", "past calendar", "asked calendar", "notes"])
def test_gaps_calendar_and_notes_change_the_output(change):
    made, batch = encoder(), batch_of(1)
    calendar = batch.calendar.clone()
    calendar[:, (slice(0, 1) if change == "past calendar" else slice(HISTORY, None)), 1] += 1
    other = {
        "visible": {"visible": ~batch.visible},
        "past calendar": {"calendar": calendar},
        "asked calendar": {"calendar": calendar},
        "notes": {"notes": torch.full_like(batch.notes, 3)},
    }[change]
    with torch.no_grad():
        assert not torch.allclose(made(batch), made(replace(batch, **other)), atol=1e-5)


def test_padding_of_notes_changes_nothing():
    made, batch = encoder(), batch_of()
    longer = replace(batch, notes=torch.nn.functional.pad(batch.notes, (0, 4)))
    with torch.no_grad():
        torch.testing.assert_close(made(batch), made(longer))


@pytest.mark.parametrize("graph", ["gat", "gcn"])
def test_a_place_hears_of_its_senders_alone(graph):
    one_way = Edges(np.array([0]), np.array([1]), np.array([1.0]))
    made, batch = encoder(graph=graph, edges=one_way), batch_of(1)
    values = batch.values.clone()
    values[0, :, 0] += 1
    with torch.no_grad():
        moved = (made(batch) - made(replace(batch, values=values))).abs().amax(dim=(0, 2))
    assert moved[0] > 1e-3
    assert moved[1] > 1e-5
    assert moved[2] == 0


@pytest.mark.parametrize("graph", ["gat", "gcn"])
def test_places_without_any_edge_are_encoded_by_themselves(graph):
    made, batch = encoder(graph=graph, edges=LONELY), batch_of(1)
    values = batch.values.clone()
    values[0, :, 0] += 1
    with torch.no_grad():
        moved = (made(batch) - made(replace(batch, values=values))).abs().amax(dim=(0, 2))
    assert moved[0] > 1e-3
    assert moved[1:].tolist() == [0, 0]


@pytest.mark.parametrize(("tokens", "graph"), LAYOUTS)
def test_the_gradient_reaches_every_parameter(tokens, graph):
    made = encoder(tokens, graph, layers=2)
    out = made(batch_of())
    (out * torch.randn_like(out)).sum().backward()
    still = [name for name, p in made.named_parameters() if p.grad is None or not p.grad.abs().sum() > 0]
    assert still == []


@pytest.mark.parametrize("tokens", ["place", "patch"])
def test_it_overfits_one_batch(tokens):
    made, batch = encoder(tokens), batch_of()
    head = torch.nn.Linear(16, HORIZON)
    optimiser = torch.optim.Adam([*made.parameters(), *head.parameters()], lr=1e-2)
    per_place = made.slots // NODES
    errors = []
    for _ in range(120):
        got = head(made(batch)[:, per_place - 1 :: per_place]).movedim(2, 1)[..., None]
        loss = ((got - batch.target[:, -HORIZON:]) ** 2 * batch.valid[:, -HORIZON:]).sum() / batch.valid.sum()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        errors.append(float(loss.detach()))
    assert errors[-1] < 0.02 * errors[0]


def test_the_edges_are_no_weights():
    assert not {"edges", "weight"} & set(encoder().state_dict())


def test_an_unknown_graph_layer_is_refused_with_the_nearest_name():
    with pytest.raises(ConfigError, match="There is no graph layer 'gta'. Did you mean 'gat'?"):
        encoder(graph="gta")


def test_an_unknown_token_layout_is_refused_with_the_nearest_name():
    with pytest.raises(ConfigError, match="There is no token layout 'places'. Did you mean 'place'?"):
        encoder(tokens="places")


@pytest.mark.parametrize("graph", ["none", "gcn"])
def test_residual_layers_mix_all_tokens_of_a_place_into_its_question(graph):
    shape = FieldShape(HISTORY, HORIZON, NODES, 1, 24, note_words=8)
    torch.manual_seed(0)
    made = FieldEncoder(
        shape,
        fields.EDGES,
        FieldEncoderOptions(d_st=16, patch=4, layers=2, graph=graph, tokens="place", mixer="mlp"),
    )
    batch = batch_of()
    out = made(batch)
    assert out.shape == (5, NODES, 16)
    torch.testing.assert_close(made(batch.take([3])), out[3:4], rtol=1e-4, atol=1e-5)
    (out * torch.randn_like(out)).sum().backward()
    assert [name for name, p in made.named_parameters() if p.grad is None or not p.grad.any()] == []
    values = batch.values.clone()
    values[0, 0, 0] += 1
    moved = (made(replace(batch, values=values)) - out).abs().amax(dim=2)[0]
    assert moved[0] > 1e-4
    assert graph == "gcn" or moved[1:].max() == 0


def test_entries_hidden_amid_a_window_are_read_from_what_is_left():
    length = HISTORY + HORIZON
    shape = FieldShape(length, length, NODES, 1, 24, note_words=8, amid=True)
    assert shape.context == 0
    torch.manual_seed(0)
    made = FieldEncoder(
        shape, fields.EDGES, FieldEncoderOptions(d_st=16, patch=5, layers=1, graph="gat", tokens="place")
    )
    head, batch = torch.nn.Linear(16, length), masked()
    optimiser = torch.optim.Adam([*made.parameters(), *head.parameters()], lr=1e-2)
    errors = []
    for _ in range(150):
        got = head(made(batch)).movedim(2, 1)[..., None]
        loss = ((got - batch.target) ** 2 * batch.valid).sum() / batch.valid.sum()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        errors.append(float(loss.detach()))
    assert errors[-1] < 0.05 * errors[0]


def test_what_is_hidden_reaches_the_encoder_by_no_way():
    length = HISTORY + HORIZON
    shape = FieldShape(length, length, NODES, 1, 24, note_words=8, amid=True)
    made, batch = (
        FieldEncoder(
            shape, fields.EDGES, FieldEncoderOptions(d_st=16, patch=5, layers=1, graph="gat", tokens="place")
        ),
        masked(),
    )
    other = replace(batch, target=batch.target + 100)
    with torch.no_grad():
        assert torch.equal(made(batch), made(other))
    assert not batch.values[batch.valid].any()


def test_the_edges_of_a_sample_are_those_of_its_neighbours():
    sample = fields.windows(fields.series(30), history=HISTORY, horizon=HORIZON)[0]
    near = (((1, 2.0),), ((0, 1.0), (2, 0.5)), ())
    found = edges_of(replace(sample, side=replace(sample.side, neighbours=near)))
    assert list(zip(found.source, found.target, found.weight, strict=True)) == [
        (1, 0, 2.0),
        (0, 1, 1.0),
        (2, 1, 0.5),
    ]


@pytest.mark.parametrize(
    ("key", "value", "said"), [("mixer", "mpl", "no mixer 'mpl'"), ("graph", "nome", "no graph layer 'nome'")]
)
def test_an_unknown_part_is_refused_with_the_nearest_name(key, value, said):
    settings = {"d_st": 16, "patch": 4, "layers": 1, "graph": "gat", "tokens": "place", key: value}
    with pytest.raises(ConfigError, match=said):
        FieldEncoder(
            FieldShape(HISTORY, HORIZON, NODES, 1, 24), fields.EDGES, FieldEncoderOptions(**settings)
        )


def settled(**settings) -> FieldEncoder:
    shape = FieldShape(HISTORY, HORIZON, NODES, 1, 24, note_words=8)
    torch.manual_seed(0)
    return FieldEncoder(
        shape,
        LONELY,
        FieldEncoderOptions(d_st=16, patch=4, layers=1, graph="none", tokens="place", **settings),
    )


def test_without_their_embedding_places_of_like_values_are_one():
    batch = batch_of()
    alike = replace(
        batch,
        values=batch.values[:, :, :1].expand(-1, -1, NODES, -1).clone(),
        visible=batch.visible[:, :, :1].expand(-1, -1, NODES, -1).clone(),
    )
    told, blind = settled()(alike), settled(drop_embeddings=("node",))(alike)
    assert (told[:, 0] - told[:, 1]).abs().max() > 1e-3
    torch.testing.assert_close(blind[:, 0], blind[:, 1])


@pytest.mark.parametrize(("name", "column"), [("step_of_day", 0), ("day_of_week", 1), ("holiday", 2)])
def test_an_embedding_that_is_left_out_is_not_heard_and_not_trained(name, column):
    batch = batch_of()
    calendar = batch.calendar.clone()
    calendar[..., column] = 1 - calendar[..., column].clamp(max=1)
    other = replace(batch, calendar=calendar)
    assert (settled()(batch) - settled()(other)).abs().max() > 1e-4
    made = settled(drop_embeddings=(name,))
    torch.testing.assert_close(made(batch), made(other))
    table = getattr(made.embed, name)
    assert not table.weight.requires_grad
    assert not table.weight.any()


def test_a_centred_encoder_does_not_heed_the_level_of_a_window():
    batch = batch_of()
    higher = replace(batch, values=batch.values + 7.0 * batch.visible)
    assert (settled()(batch) - settled()(higher)).abs().max() > 1e-2
    made = settled(center_windows=True)
    torch.testing.assert_close(made(batch), made(higher), atol=1e-4, rtol=1e-4)
    assert (made(batch) - made(replace(batch, values=2 * batch.values))).abs().max() > 1e-3


def test_without_a_layer_the_mlp_is_linear_in_what_it_sees():
    shape = FieldShape(HISTORY, HORIZON, NODES, 1, 24, note_words=8)
    made = FieldEncoder(
        shape,
        fields.EDGES,
        FieldEncoderOptions(d_st=16, patch=HISTORY, layers=0, graph="none", tokens="place", mixer="mlp"),
    ).eval()
    batch = batch_of()
    zero, one, two = (made(replace(batch, values=k * batch.values)) for k in (0.0, 1.0, 2.0))
    torch.testing.assert_close(two - zero, 2 * (one - zero), rtol=1e-4, atol=1e-5)
    with pytest.raises(ValueError, match="a transformer needs a layer at least"):
        EncoderSettings(layers=0)


def test_what_scales_says_nothing_where_values_are_nothing():
    made, batch = scaling(), batch_of()
    torch.nn.init.zeros_(made.embed.values.bias)
    empty = replace(batch, values=torch.zeros_like(batch.values), visible=torch.zeros_like(batch.visible))
    with torch.no_grad():
        assert torch.allclose(made(empty), made(empty)[0, 0])  # whatever the time, the place and the notes
        assert not torch.allclose(made(batch)[:, 0], made(batch)[:, 1])


def test_with_gates_as_they_begin_values_pass_as_they_are():
    made, batch = scaling(), batch_of()
    torch.nn.init.zeros_(made.embed.gate[-1].weight)
    with torch.no_grad():
        tokens = made.embed(batch)
        later = made.embed(replace(batch, calendar=(batch.calendar + 1) % 2))
    torch.testing.assert_close(tokens, later)


@pytest.mark.parametrize("column", [0, 1, 2, 3])
def test_each_part_of_the_calendar_scales(column):
    made, batch = scaling(), batch_of()
    moved = batch.calendar.clone()
    moved[..., column] = 1 - moved[..., column].clamp(max=1)
    with torch.no_grad():
        assert not torch.allclose(made(batch), made(replace(batch, calendar=moved)))


def test_the_month_is_told_where_it_is_asked_for():
    batch = batch_of()
    moved = batch.calendar.clone()
    moved[..., 3] = (moved[..., 3] + 6) % 12
    with torch.no_grad():
        for also, told in (((), False), (("month",), True)):
            made = scaling(also)
            assert torch.equal(made(batch), made(replace(batch, calendar=moved))) is not told


def _arm_of(humidity):
    """The preprocessor and the encoder of a forecast of the temperature of two stations, and a window."""
    task = tasks.forecast(6, 2)
    splits = split(weather.stations(humidity), task)
    fitted = fit_field_preprocessor(splits.train, skip="none", template=None, slots=2)
    shape = fitted.task_shape(splits.train[0], task)
    torch.manual_seed(0)
    options = FieldEncoderOptions(d_st=8, patch=2, layers=1, graph="none", tokens="place")
    return fitted, FieldEncoder(shape, edges_of(splits.train[0]), options), splits.test[0]


def _moved(sample, steps: slice):
    """The window with a more humid air at these steps, as far as it is visible."""
    values = sample.values.copy()
    values[steps, :, 1] += 5
    return replace(sample, values=np.where(sample.visible, values, np.nan))


@pytest.mark.parametrize(("humidity", "sees"), [(weather.COVARIATE, False), (weather.KNOWN, True)])
def test_an_encoder_reads_covariates_ahead_only_where_they_are_known(humidity, sees):
    fitted, made, sample = _arm_of(humidity)
    windows = [sample, _moved(sample, slice(0, 6)), _moved(sample, slice(6, 8))]
    with torch.no_grad():
        as_is, past, ahead = made(fitted.collate(windows, with_instructions=False))
    assert not torch.allclose(as_is, past)
    assert torch.allclose(as_is, ahead) is not sees


def test_training_errors_are_in_spreads_of_channels_where_their_units_differ():
    splits = split(weather.stations(), tasks.forecast(6, 2))
    scaler = fit_scaler(splits.train)
    spread = np.sqrt((scaler.std**2).mean(axis=0) + scaler.mean.var(axis=0))
    assert scaler.error_scale(splits.train[0].side) == pytest.approx(scaler.std / spread)
    alone = split(weather.stations(weather.COVARIATE), tasks.forecast(6, 2)).train[0]
    assert scaler.error_scale(alone.side) is scaler.std


def patched(mixer="none", **changes) -> FieldEncoder:
    """An encoder of overlapping patches that keeps all tokens."""
    torch.manual_seed(0)
    options = FieldEncoderOptions(
        d_st=16, patch=4, layers=0, graph="none", tokens="patch", mixer=mixer, **changes
    )
    return FieldEncoder(FieldShape(HISTORY, HORIZON, NODES, 1, 24, note_words=8), fields.EDGES, options)


@pytest.mark.parametrize(
    ("history", "patch", "stride", "patches"),
    [(336, 16, 8, 41), (336, 24, None, 14), (12, 5, None, 3), (5, 8, 4, 1)],
)
def test_patches_that_overlap_end_with_the_history(history, patch, stride, patches):
    assert patch_count(history, patch, stride) == patches


def test_a_patch_without_a_mixer_is_the_embedding_of_its_own_steps():
    made, batch = patched(patch_stride=2, readout="flatten"), batch_of(1)
    other = replace(batch, values=batch.values.clone())
    other.values[0, 5, 0] += 1.0  # steps 2 to 5 and 4 to 7: the second and third of five patches
    with torch.no_grad():
        moved = (made(batch) - made(other)).abs().amax(dim=2)[0] > 1e-6
    assert made.slots == NODES * 6
    assert moved.nonzero()[:, 0].tolist() == [1, 2]
    assert made.output_slots == slice(None)


def test_an_instance_norm_removes_level_and_scale_of_a_window():
    made, batch = patched(instance_norm=True), batch_of(2)
    moved = replace(batch, values=torch.where(batch.visible, 7 * batch.values + 3, batch.values))
    with torch.no_grad():
        torch.testing.assert_close(made(moved), made(batch), rtol=1e-3, atol=1e-3)
        assert not torch.allclose(patched()(moved), patched()(batch), atol=0.1)


def test_one_token_a_place_cannot_be_read_patch_by_patch():
    with pytest.raises(ConfigError, match="need tokens='patch'"):
        FieldEncoderOptions(d_st=16, patch=4, layers=1, graph="none", tokens="place", readout="flatten")
