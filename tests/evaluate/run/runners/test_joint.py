"""One set of weights over data sets: tied weights, rows of channels, and predictions on places never seen."""

import json
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch
from pydantic import ValidationError
from support import five_kinds, tiny_suite

import st2llm
from st2llm.config.suite import Suite
from st2llm.encode.field_batch import NoteVocabulary, stack_fields
from st2llm.encode.joined_batch import JoinedBatch, join_channels, split_channels
from st2llm.encode.scaler import fit_scaler
from st2llm.errors import ConfigError
from st2llm.model.objectives.joint import tie
from st2llm.train.loop.batches import JoinedBatches
from st2llm.types import TrainingWindows


def batch_of(container, history, horizon):
    samples = five_kinds.field_samples(container, history, horizon, stride=horizon)
    return stack_fields(samples, fit_scaler(TrainingWindows(samples)), NoteVocabulary(()))


def test_channels_become_rows_and_rows_channels_again():
    batch = batch_of(five_kinds.graph(), 24, 6)
    two = torch.cat([batch.values, 2 * batch.values], dim=3)
    fields = ("visible", "base", "target", "valid")
    doubled = replace(batch, values=two, **{name: getattr(batch, name).repeat(1, 1, 1, 2) for name in fields})
    rows = split_channels(doubled)
    assert rows.values.shape[0] == 2 * len(batch) and rows.values.shape[3] == 1
    torch.testing.assert_close(join_channels(rows.values, 2), two)
    assert (rows.calendar[0] == rows.calendar[1]).all() and (rows.calendar[1] != rows.calendar[2]).any()


def test_a_joined_batch_counts_rows_through_its_parts_and_draws_an_equal_share_of_each():
    one, other = batch_of(five_kinds.graph(), 24, 6), batch_of(five_kinds.graph(nodes=5), 24, 6)
    joined = JoinedBatch({"one": one, "other": other})
    taken = joined.take([0, len(one), len(one) + 2])
    assert {name: len(part) for name, part in taken.parts.items()} == {"one": 1, "other": 2}
    torch.testing.assert_close(taken.parts["other"].values, other.values[[0, 2]])
    source, again = (JoinedBatches(joined, 8, seed=3) for _ in range(2))
    first = source.next()
    assert {len(part) for part in first.parts.values()} == {4} and source.batch == 8
    again.skip()
    torch.testing.assert_close(again.next().parts["one"].values, source.next().parts["one"].values)


def test_tied_modules_share_their_weights_and_weights_of_other_sizes_are_refused():
    one, other = torch.nn.Linear(3, 2), torch.nn.Linear(3, 2)
    tie(one, other)
    assert other.weight is one.weight
    with pytest.raises(ConfigError, match="drop_embeddings"):
        tie(torch.nn.Linear(4, 2), other)


def suite(card, other, **changes):
    def arm(name, *data, **more):
        return {
            "name": name,
            "family": "primitive",
            "backbone": "none",
            "set": {"trained_on": [str(d) for d in data], **more},
        }

    return (
        tiny_suite.small(card)
        | {
            "encoder": {
                "d_st": 8,
                "layers": 1,
                "mixer": "mlp",
                "patch": 12,
                "graph": "regions",
                "drop_embeddings": ["node", "notes"],
            },
            "skip": "last",
            "predictors": [
                *tiny_suite.rules(card)["predictors"],
                arm("own", card),
                arm("elsewhere", other),
                arm("both", card, other),
                arm("ridge-elsewhere", other, closed_form=True),
            ],
            "seeds": [0],
            "budget": {"steps": 30, "batch": 8, "lr": [1e-2], "evaluations": 2},
            "windows": {"select": "even", "count": 6},
        }
        | changes
    )


@pytest.fixture(scope="module")
def other(tmp_path_factory):
    return tiny_suite.write_card(tmp_path_factory.mktemp("other"), start="2022-01-01", days=60)


@pytest.mark.slow
def test_weights_learned_elsewhere_predict_places_never_seen(card, other, tmp_path):
    report = st2llm.compare(suite(card, other), out=tmp_path / "run", progress=False)
    error = {r["predictor"]: r["metrics"]["mae"]["value"] for r in report.records if r["seed"] is None}
    assert all(np.isfinite(value) for value in error.values())
    for name in ("own", "elsewhere", "both", "ridge-elsewhere"):
        assert error[name] < 0.7 * error["last-value"]
    arm = json.loads((tmp_path / "run" / "arms" / "both-0.json").read_text())
    assert arm["training"]["trained_on"] == [str(card), str(other)] and arm["training"]["steps"] == 30
    assert (
        arm["cost"]["params_trained"]
        == json.loads((tmp_path / "run" / "arms" / "own-0.json").read_text())["cost"]["params_trained"]
    )


def _without_last_place(card):
    """The card, with one place fewer in its files."""
    values, places = card.parent / "values.csv", card.parent / "places.csv"
    pd.read_csv(values).iloc[:, :-1].to_csv(values, index=False)
    pd.read_csv(places).iloc[:-1].to_csv(places, index=False)
    return card


def test_weights_of_places_cannot_be_shared(card, other, tmp_path):
    content = suite(card, other, encoder={"d_st": 8, "layers": 1, "mixer": "mlp", "graph": "none"})
    smaller = _without_last_place(tiny_suite.write_card(tmp_path / "smaller"))
    content["predictors"] = [content["predictors"][-2]]
    content["predictors"][0]["set"]["trained_on"] = [str(card), str(smaller)]
    with pytest.raises(ConfigError, match="cannot be shared"):
        st2llm.compare(content, out=tmp_path / "run", progress=False)


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"objectives": {"regression": {}}}, "give one of them"),
        ({"trained_on": [], "closed_form": True}, "needs `trained_on` beside it"),
    ],
)
def test_what_does_not_go_with_other_data_is_refused(card, other, changes, says):
    content = suite(card, other)
    content["predictors"][-2]["set"] |= changes
    with pytest.raises(ValidationError, match=says):
        Suite.model_validate(content)
