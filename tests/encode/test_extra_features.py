"""What is joined to the values: geometry of places, frequencies, and frozen features of texts and images."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from support import fields, five_kinds

from st2llm.encode.extra_features import (
    code_features,
    place_feature_size,
    place_features,
    window_feature_size,
    window_features,
)
from st2llm.encode.field import FieldEncoder, FieldEncoderOptions, FieldShape, edges_of
from st2llm.encode.field_batch import fit_note_vocabulary, stack_fields
from st2llm.encode.scaler import fit_scaler
from st2llm.errors import ConfigError
from st2llm.types import Layout, TrainingWindows

HISTORY, HORIZON, NODES = 12, 3, 5
XY = np.array([[0.0, 0.0], [100.0, 0.0], [200.0, 50.0], [300.0, 0.0], [900.0, 900.0]])
LINE = tuple(tuple((j, 1.0) for j in (i - 1, i + 1) if 0 <= j < NODES) for i in range(NODES))
KINDS = ("coordinates", "laplacian", "frequency", "text", "image")


def samples(count=4, **side):
    given = {"xy": XY, "neighbours": LINE, "labels": tuple("abcde"), **side}
    made = fields.windows(
        fields.series(HISTORY + HORIZON + count - 1, NODES), history=HISTORY, horizon=HORIZON
    )
    return [replace(sample, side=replace(sample.side, **given)) for sample in made]


def encoder(sample, also, graph="gcn"):
    torch.manual_seed(0)
    shape = FieldShape(HISTORY, HORIZON, NODES, 1, 24, note_words=32)
    edges = edges_of(sample)
    return FieldEncoder(
        shape,
        edges,
        FieldEncoderOptions(d_st=16, patch=4, layers=1, graph=graph, tokens="place", extra_features=also),
        place_features=place_features(sample, edges, also),
    ).eval()


def batch_of(given, also):
    return stack_fields(
        given,
        fit_scaler(TrainingWindows(given)),
        fit_note_vocabulary(TrainingWindows(given)),
        extra_features=also,
    )


def pictures(count=6, seed=0):
    return np.random.default_rng(seed).integers(0, 255, (count, 24, 32, 3), dtype=np.uint8)


def test_coordinates_tell_places_apart_and_forget_where_the_map_begins():
    one, moved = samples(1)[0], samples(1, xy=XY + 5e5)[0]
    waves = place_features(one, edges_of(one), ["coordinates"])
    assert waves.shape == (NODES, place_feature_size(["coordinates"]))
    torch.testing.assert_close(waves, place_features(moved, edges_of(moved), ["coordinates"]))
    near, far = (waves[0] - waves[1]).norm(), (waves[0] - waves[4]).norm()
    assert near < far


def test_cells_of_a_raster_have_coordinates():
    layout = Layout(np.array([10.0]), np.array([20.0, 22.0, 24.0, 26.0, 28.0]), "degrees")
    one = samples(1, xy=None, lonlat=None, layout=layout)[0]
    waves = place_features(one, edges_of(one), ["coordinates"])
    assert len(np.unique(waves.numpy().round(5), axis=0)) == NODES


def test_places_without_positions_have_no_coordinates():
    one = samples(1, xy=None, lonlat=None)[0]
    with pytest.raises(ConfigError, match="position of each place"):
        place_features(one, edges_of(one), ["coordinates"])


def test_eigenvectors_of_a_line_are_its_waves_and_repeat_themselves():
    one = samples(1)[0]
    torch.manual_seed(1)
    first = place_features(one, edges_of(one), ["laplacian"])
    torch.manual_seed(2)
    torch.testing.assert_close(first, place_features(one, edges_of(one), ["laplacian"]))
    slowest = first[:, 0]  # the Fiedler vector runs from one end of the line to the other
    assert torch.equal(slowest.sort().values, slowest) or torch.equal(
        slowest.sort(descending=True).values, slowest
    )
    assert not first[:, NODES - 2 :].any()


def test_eigenvectors_of_a_large_ring_repeat_themselves():
    edges = fields.EDGES.__class__(np.arange(150), (np.arange(150) + 1) % 150, np.linspace(0.5, 1.0, 150))
    one = fields.windows(fields.series(15, 150), history=12, horizon=3)[0]
    torch.manual_seed(1)
    first = place_features(one, edges, ["laplacian"])
    torch.manual_seed(2)
    torch.testing.assert_close(first, place_features(one, edges, ["laplacian"]))
    assert first[:, 0].std() > 0.1


def test_frequencies_are_of_what_is_seen_alone():
    given = samples()
    made = encoder(given[0], ["frequency"])
    ours = made(batch_of(given, ()))
    theirs = made(batch_of([fields.with_truth(s, 1e5) for s in given], ()))
    torch.testing.assert_close(ours, theirs)


@pytest.mark.parametrize(
    "also", [("coordinates",), ("laplacian",), ("frequency",), ("coordinates", "frequency")]
)
def test_what_is_joined_reaches_the_embedding(also):
    given = samples()
    made, batch = encoder(given[0], also), batch_of(given, also)
    with torch.no_grad():
        before = made(batch)
        for layer in (made.embed.of_place, made.embed.frequency):
            if layer is not None:
                layer.weight.zero_()
        assert not torch.allclose(before, made(batch))


def test_an_encoder_that_is_told_too_little_of_places_says_so():
    with pytest.raises(ConfigError, match="24 numbers about each of 5 places, but nothing came"):
        FieldEncoder(
            FieldShape(HISTORY, HORIZON, NODES, 1, 24),
            fields.EDGES,
            FieldEncoderOptions(
                d_st=16, patch=4, layers=1, graph="none", tokens="place", extra_features=["coordinates"]
            ),
        )


def test_features_of_windows_are_forgotten_where_more_is_hidden():
    given = [replace(s, side=replace(s.side, frames=pictures())) for s in samples(2)]
    batch = replace(batch_of(given, ()), features=torch.ones(2, 7))
    assert not batch.mask_out(torch.zeros_like(batch.visible)).features.any()
    assert batch.take([1]).features.shape == (1, 7)


def test_diffusion_walks_along_the_edges_and_against_them():
    given = samples()
    made = encoder(given[0], (), graph="diffusion")
    batch = batch_of(given, ())
    before = made(batch)
    far = batch.values.clone()
    far[:, :, 4] += 3.0
    after = made(replace(batch, values=far))
    changed = (after - before).abs().amax(dim=(0, 2)) > 1e-6
    assert changed.tolist() == [False, False, True, True, True]  # two steps along the line


@pytest.mark.slow
def test_sentences_that_mean_the_same_lie_close_and_reach_the_encoder():
    notes = ["It rains heavily.", "There is a downpour.", "The cup final is played tonight.", ""]
    given = fields.noted(samples(4), notes)
    rows = window_features(given, ["text"])
    assert rows.shape == (4, window_feature_size(["text"]))
    assert rows[0] @ rows[1] > rows[0] @ rows[2] + 0.2
    assert not rows[3].any()
    made = encoder(given[0], ["text"])
    said = made(batch_of(given, ["text"]))
    silent = made(batch_of(fields.noted(given, [""] * 4), ["text"]))
    assert not torch.allclose(said[:3], silent[:3])
    torch.testing.assert_close(said[3], silent[3])


@pytest.mark.slow
def test_frames_are_seen_by_the_frozen_encoder():
    frames = pictures()
    given = [
        replace(s, side=replace(s.side, frames=frames if i % 2 else None)) for i, s in enumerate(samples(2))
    ]
    rows = window_features(given, ["image"])
    assert rows.shape == (2, window_feature_size(["image"]))
    assert not rows[0].any()
    assert rows[1].abs().sum() > 1.0
    torch.testing.assert_close(rows[1], window_features(given, ["text", "image"])[1, 384:])


def test_places_that_are_called_alike_lie_close():
    one = five_kinds.event_samples(five_kinds.events())[0]
    labels = ("café", "coffee shop", "railway")
    named = replace(one, side=replace(one.side, options=("a", "b", "c"), option_labels=labels))
    found = code_features(named, ["text"])
    assert found.shape == (3, 384)
    near = torch.nn.functional.normalize(found, dim=1) @ torch.nn.functional.normalize(found, dim=1).T
    assert near[0, 1] > near[0, 2] + 0.1


def test_sequences_refuse_what_is_for_fields_and_names_where_there_are_none():
    one = five_kinds.event_samples(five_kinds.events())[0]
    assert code_features(one, []) is None
    with pytest.raises(ConfigError, match="coordinates, image is for fields"):
        code_features(one, ["text", "image", "coordinates"])
    bare = replace(one, side=replace(one.side, options=(), option_labels=()))
    with pytest.raises(ConfigError, match="none of them"):
        code_features(bare, ["text"])
