"""Regions of capped size, the same weights on a grid and on a graph that they have never seen."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from support import fields

from st2llm.encode.field import FieldEncoder, FieldEncoderOptions, FieldShape, edges_of
from st2llm.encode.field_batch import fit_note_vocabulary, stack_fields
from st2llm.encode.regions import partition_places
from st2llm.encode.scaler import fit_scaler
from st2llm.errors import ConfigError
from st2llm.types import Layout, TrainingWindows

HISTORY, HORIZON, CAP = 12, 3, 4


def samples(nodes, **side):
    made = fields.windows(fields.series(HISTORY + HORIZON + 3, nodes), history=HISTORY, horizon=HORIZON)
    bare = {"neighbours": ((),) * nodes, "labels": tuple(map(str, range(nodes)))}
    return [replace(sample, side=replace(sample.side, **bare, **side)) for sample in made]


def grid(rows=3, cols=5):
    return samples(rows * cols, layout=Layout(np.arange(float(rows)), np.arange(float(cols))))


def cloud(nodes=23, seed=0):
    return samples(nodes, xy=np.random.default_rng(seed).uniform(0, 1000, (nodes, 2)))


def chain(nodes=9):
    near = tuple(tuple((j, 1.0) for j in (i - 1, i + 1) if 0 <= j < nodes) for i in range(nodes))
    made = samples(nodes)
    return [replace(s, side=replace(s.side, neighbours=near, xy=None, lonlat=None)) for s in made]


def encoder(given, **changes):
    torch.manual_seed(0)
    one = given[0]
    settings = {
        "d_st": 16,
        "patch": 4,
        "layers": 1,
        "graph": "regions",
        "tokens": "place",
        "drop_embeddings": ["node"],
    }
    shape = FieldShape(HISTORY, HORIZON, len(one.place), 1, 24)
    regions = partition_places(one, edges_of(one), CAP)
    return FieldEncoder(
        shape,
        edges_of(one),
        FieldEncoderOptions(**{**settings, **changes}, region_size=CAP),
        partition=regions,
    ).eval()


def batch_of(given):
    return stack_fields(
        given, fit_scaler(TrainingWindows(given)), fit_note_vocabulary(TrainingWindows(given))
    )


@pytest.mark.parametrize(
    "given", [grid(), cloud(), chain(), samples(7)], ids=["grid", "cloud", "chain", "bare"]
)
def test_regions_hold_each_place_once_and_no_more_than_the_cap(given):
    one = given[0]
    found = partition_places(one, edges_of(one), CAP)
    taken = list(zip(found.region.tolist(), found.slot.tolist(), strict=True))
    assert len(set(taken)) == len(one.place)
    assert found.slot.min() >= 0 and found.slot.max() < CAP
    assert set(found.region.tolist()) == set(range(found.count))
    again = partition_places(one, edges_of(one), CAP)
    np.testing.assert_array_equal(found.region, again.region)


def test_blocks_of_a_raster_are_squares():
    one = grid(4, 4)[0]
    found = partition_places(one, edges_of(one), CAP).region.reshape(4, 4)
    assert found.tolist() == [[0, 0, 1, 1], [0, 0, 1, 1], [2, 2, 3, 3], [2, 2, 3, 3]]


def test_places_of_a_region_lie_nearer_to_each_other_than_to_others():
    one = cloud(200)[0]
    found, xy = partition_places(one, edges_of(one), CAP), one.side.xy
    away = np.linalg.norm(xy[:, None] - xy[None], axis=2)
    same = found.region[:, None] == found.region[None]
    assert away[same & (away > 0)].mean() < 0.25 * away[~same].mean()


def test_a_chain_is_cut_into_runs():
    one = chain()[0]
    found = partition_places(one, edges_of(one), CAP)
    for region in range(found.count):
        members = np.flatnonzero(found.region == region)
        assert members.max() - members.min() == len(members) - 1


def test_the_weights_of_a_grid_run_on_a_graph_that_they_have_never_seen():
    first, other = encoder(grid()), encoder(cloud())
    with torch.no_grad():
        for weight in other.parameters():
            weight.add_(1.0)
    other.load_state_dict(first.state_dict())
    said = other(batch_of(cloud()))
    assert said.shape[1:] == (23, 16)
    torch.testing.assert_close(said, encoder(cloud())(batch_of(cloud())))


def test_a_place_is_heard_in_its_own_region_and_through_it_in_others():
    given = grid(4, 4)
    made, batch = encoder(given), batch_of(given)
    values = batch.values.clone()
    values[:, :, 0] += 3.0
    moved = (made(replace(batch, values=values)) - made(batch)).abs().amax(dim=(0, 2))
    assert (moved > 1e-6).all()
    assert moved[1] > moved[15]


def test_the_order_of_places_says_nothing():
    given = cloud()
    shuffle = np.random.default_rng(1).permutation(23)
    other = [
        replace(
            s,
            values=s.values[:, shuffle],
            visible=s.visible[:, shuffle],
            wanted=s.wanted[:, shuffle],
            truth=s.truth[:, shuffle],
            place=tuple(s.place[i] for i in shuffle),
            side=replace(s.side, xy=s.side.xy[shuffle]),
        )
        for s in given
    ]
    said, again = encoder(given)(batch_of(given)), encoder(other)(batch_of(other))
    torch.testing.assert_close(said[:, shuffle], again, atol=1e-5, rtol=1e-4)


def test_regions_without_a_partition_are_refused():
    with pytest.raises(ConfigError, match="takes a partition"):
        FieldEncoder(
            FieldShape(HISTORY, HORIZON, 3, 1, 24),
            fields.EDGES,
            FieldEncoderOptions(d_st=16, patch=4, layers=1, graph="regions", tokens="place"),
        )
