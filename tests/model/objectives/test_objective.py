"""Each objective learns, adds up over parts of a batch, and asks only for what it may."""

import pytest
import torch
from support import fields

from st2llm.config.model import EncoderSettings
from st2llm.encode.field import FieldShape
from st2llm.encode.field_batch import fit_note_vocabulary, stack_fields
from st2llm.encode.scaler import fit_scaler
from st2llm.errors import ConfigError, TrainingError
from st2llm.model.arm import ArmSpec
from st2llm.model.objectives.combined import CombinedObjective
from st2llm.model.objectives.contrastive import Contrastive
from st2llm.model.objectives.diffusion import DiffusionObjective
from st2llm.model.objectives.masked import MaskedReconstruction
from st2llm.model.objectives.noise_schedule import NoiseSchedule
from st2llm.model.objectives.supervised import Regression
from st2llm.model.pretraining import FieldPretrainingModel
from st2llm.train.loop.budget import Budget
from st2llm.train.loop.trainer import fit
from st2llm.types import TrainingWindows

STEPS, NODES = 12, 3


def batch(count=24):
    samples = fields.windows(fields.series(120), history=8, horizon=4, stride=3)[:count]
    return stack_fields(
        samples, fit_scaler(TrainingWindows(samples)), fit_note_vocabulary(TrainingWindows(samples))
    )


def module(seed=0, schedule=None):
    settings = EncoderSettings(d_st=16, patch=4, layers=1)
    shape = FieldShape(STEPS, STEPS, NODES, 1, 24, amid=True)
    return FieldPretrainingModel(
        ArmSpec(shape, fields.EDGES, 16, 1.0, 4, settings), seed=seed, schedule=schedule
    )


def objectives():
    return {
        "regression": Regression(torch.full((NODES, 1), 10.0)),
        "masked": MaskedReconstruction(fields.EDGES, policies=("random", "span"), ratio=0.4),
        "contrastive": Contrastive(fields.EDGES, steps_per_day=24, near_hours=1, views=("hide", "noise")),
        "contrastive by node": Contrastive(fields.EDGES, steps_per_day=24, near_hours=1, level="node"),
        "diffusion": DiffusionObjective(NoiseSchedule()),
        "flow": DiffusionObjective(NoiseSchedule("flow", "velocity")),
    }


@pytest.mark.slow
@pytest.mark.parametrize("name", objectives())
def test_every_objective_learns(name):
    schedule = NoiseSchedule("flow", "velocity") if name == "flow" else None
    got = fit(
        module(schedule=schedule),
        batch(),
        batch(),
        Budget(120, 24, 3e-3, evaluations=6),
        objective=objectives()[name],
        seed=0,
    )
    assert got.curve.best < 0.85 * got.curve.validation[0]


@pytest.mark.parametrize("name", [n for n, o in objectives().items() if not o.whole_batch])
@torch.no_grad()
def test_parts_of_a_batch_add_up_to_the_whole(name):
    objective, arm = objectives()[name], module()
    drawn = objective.draw(batch(), torch.Generator().manual_seed(1))
    whole = objective.totals(arm, drawn)
    parts = [objective.totals(arm, drawn.take(range(24)[i::3])) for i in range(3)]
    counts = [objective.counts(drawn.take(range(24)[i::3])) for i in range(3)]
    for term, total in whole.items():
        assert float(sum(part[term] for part in parts)) == pytest.approx(float(total), rel=1e-5)
        assert sum(count[term] for count in counts) == objective.counts(drawn)[term]


@pytest.mark.parametrize("name", objectives())
@torch.no_grad()
def test_what_a_step_draws_depends_on_its_generator_alone(name):
    objective, arm = objectives()[name], module()
    found = []
    for seed in (3, 3, 4):
        torch.rand(seed)
        drawn = objective.draw(batch(), torch.Generator().manual_seed(seed))
        found.append(float(next(iter(objective.totals(arm, drawn).values()))))
    assert found[0] == found[1]
    assert found[0] != found[2] or name == "regression"


def test_masked_training_asks_for_hidden_entries_of_whole_windows_alone():
    whole = batch()
    drawn = MaskedReconstruction(fields.EDGES, policies=("tube",), ratio=0.34).draw(
        whole, torch.Generator().manual_seed(0)
    )
    assert not (drawn.visible & drawn.valid).any()
    assert (drawn.valid.all(dim=1) | ~drawn.valid.any(dim=1)).all()
    assert not drawn.values[drawn.valid].any()
    known = torch.where(whole.valid, whole.target, whole.values)
    assert torch.equal(drawn.target[drawn.valid], known[drawn.valid])


def test_what_is_hidden_cannot_change_what_a_masked_model_says():
    arm = module()
    drawn = MaskedReconstruction(fields.EDGES, ratio=0.5).draw(batch(), torch.Generator().manual_seed(0))
    other = drawn.mask_out(torch.zeros_like(drawn.visible))
    assert torch.equal(arm(drawn), arm(other))


def test_a_contrastive_batch_is_not_cut():
    objective = objectives()["contrastive"]
    with pytest.raises(TrainingError, match="gradient_accumulation_steps: 1"):
        fit(
            module(),
            batch(),
            batch(),
            Budget(2, 8, 1e-3, gradient_accumulation_steps=2),
            objective=objective,
            seed=0,
        )


@pytest.mark.slow
@pytest.mark.parametrize("parts", [2, 3, 8])
def test_small_batches_in_place_of_a_large_one_train_the_same(parts):
    found = []
    for accumulate in (1, parts):
        arm = module()
        both = CombinedObjective({name: (objectives()[name], 1.0) for name in ("regression", "masked")})
        budget = Budget(6, 8, 1e-3, evaluations=3, gradient_accumulation_steps=accumulate)
        found.append(fit(arm, batch(), batch(), budget, objective=both, seed=0).curve)
    assert found[1].train == pytest.approx(found[0].train, rel=1e-4)
    assert found[1].validation == pytest.approx(found[0].validation, rel=1e-4)


def test_a_combination_weighs_its_terms():
    terms = {"regression": (objectives()["regression"], 2.0), "masked": (objectives()["masked"], 0.5)}
    both = CombinedObjective(terms)
    assert both.term_weights == pytest.approx({"regression": 0.2, "masked": 0.5})
    assert both.selection_score({"regression": 5.0, "masked": 4.0}) == pytest.approx(3.0)
    with pytest.raises(ConfigError, match="at least one objective"):
        CombinedObjective({})


def test_samples_hold_what_is_seen_and_differ_where_it_is_hidden():
    arm, data = module(), batch(5)
    torch.nn.init.normal_(arm.denoise.out.weight, std=0.05)
    drawn = arm.sample(data, draws=4, steps=5, generator=torch.Generator().manual_seed(0))
    again = arm.sample(data, draws=4, steps=5, generator=torch.Generator().manual_seed(0))
    assert drawn.shape == (4, 5, STEPS, NODES, 1)
    assert torch.equal(drawn, again)
    assert not drawn[:, data.visible].any()
    assert (drawn[:, data.valid].std(dim=0) > 0).all()


def test_squared_regression_is_the_mean_squared_error_in_raw_units():
    arm, data, scale = module(), batch(), torch.full((NODES, 1), 10.0)
    objective = Regression(scale, squared=True)
    with torch.no_grad():
        got = float(objective.totals(arm, data)["regression"]) / objective.counts(data)["regression"]
        want = float((((arm(data) - data.target) * 10)[data.valid] ** 2).mean())
    assert got == pytest.approx(want, rel=1e-5)
    assert objective.term_weights["regression"] == pytest.approx(0.01)
