"""Views of windows and sequences find each other, and what is alike is no negative."""

import numpy as np
import pytest
import torch
from support import fields, five_kinds

from st2llm.config.model import EncoderSettings
from st2llm.encode.point_batch import DAY_PARTS
from st2llm.errors import ConfigError
from st2llm.model.arm import ArmSpec
from st2llm.model.objectives.contrastive import AUGMENTATIONS, Contrastive, info_nce
from st2llm.model.pretraining import SequencePretrainingModel
from st2llm.predict.preprocess.sequence import fit_sequence_preprocessor
from st2llm.train.loop.budget import Budget
from st2llm.train.loop.trainer import fit
from st2llm.types import NO_EDGES, TrainingWindows


def test_info_nce_is_the_closed_form_and_leaves_out_what_is_alike():
    z = torch.eye(4)[None]
    apart = torch.eye(4, dtype=torch.bool)
    want = 4 * np.log(1 + 3 * np.exp(-1 / 0.5))
    assert float(info_nce(z, z, apart, 0.5)) == pytest.approx(want, rel=1e-5)
    all_alike = torch.ones((4, 4), dtype=torch.bool)
    assert float(info_nce(z, z, all_alike, 0.5)) == pytest.approx(0, abs=1e-6)


def test_windows_at_a_like_time_of_day_are_no_negatives():
    near = Contrastive(fields.EDGES, steps_per_day=24, near_hours=2)
    clock = torch.tensor([23.0, 0.5, 2.0, 12.0]) / 24
    assert near._excluded_negatives(clock).tolist() == [
        [True, True, False, False],
        [True, True, True, False],
        [False, True, True, False],
        [False, False, False, True],
    ]


def test_windows_that_all_begin_at_one_time_of_day_are_negatives_of_each_other():
    daily = Contrastive(fields.EDGES, steps_per_day=24, near_hours=1)
    assert (daily._excluded_negatives(torch.full((4,), 0.25)) == torch.eye(4, dtype=torch.bool)).all()


def test_neighbours_along_the_edges_are_no_negatives():
    got = Contrastive(fields.EDGES, steps_per_day=24, level="node")._neighbours(3, torch.device("cpu"))
    for s, t in zip(fields.EDGES.source, fields.EDGES.target, strict=True):
        assert got[s, t]
        assert got[t, s]
    assert got.diagonal().all()


@pytest.mark.parametrize("view", ["temporal-shift", "mixup"])
def test_augmentations_from_labels_are_refused(view):
    with pytest.raises(ConfigError, match="it would learn from labels"):
        Contrastive(fields.EDGES, steps_per_day=24, views=(view,))


def test_an_unknown_view_names_the_nearest():
    with pytest.raises(ConfigError, match="'hide'"):
        Contrastive(fields.EDGES, steps_per_day=24, views=("hid",))


def sequences():
    samples = five_kinds.event_samples(five_kinds.events(80), 6)
    preprocessor = fit_sequence_preprocessor(TrainingWindows(samples), skip="none", points=6)
    blueprint = ArmSpec(preprocessor.shape, NO_EDGES, 16, 1.0, 4, EncoderSettings(d_st=16, layers=1))
    return SequencePretrainingModel(blueprint, seed=0), preprocessor.collate(samples, with_instructions=False)


def test_sequences_find_their_other_view():
    module, data = sequences()
    objective = Contrastive(
        NO_EDGES, steps_per_day=DAY_PARTS, near_hours=0.0, views=("hide", "noise"), strength=0.3
    )
    got = fit(module, data, data, Budget(40, 24, 3e-3, evaluations=2), objective=objective, seed=0)
    assert got.curve.best < 0.8 * got.curve.validation[0]


@pytest.mark.parametrize("view", AUGMENTATIONS)
def test_a_view_of_a_sequence_changes_what_is_recorded_and_not_what_is_asked(view):
    _, data = sequences()
    made = data.augment(view, 0.5, torch.Generator().manual_seed(0))
    again = data.augment(view, 0.5, torch.Generator().manual_seed(0))
    changed = [
        name for name in data.tensor_names() if not torch.equal(getattr(made, name), getattr(data, name))
    ]
    assert changed == (["real"] if view == "hide" else ["numbers"])
    assert torch.equal(made.real, again.real)
    assert torch.equal(made.numbers, again.numbers)
    assert made.real[:, -1].all()  # what was last stays


def test_a_point_that_is_missing_is_not_read():
    module, data = sequences()
    made = data.augment("hide", 0.5, torch.Generator().manual_seed(0))
    other = torch.where(made.real[..., None], data.numbers, 99.0)
    module.eval()
    with torch.no_grad():
        said = [module.embed(rows) for rows in (made, type(made)(**{**vars(made), "numbers": other}))]
    torch.testing.assert_close(said[0], said[1])
    assert not torch.allclose(said[0], module.embed(data))
