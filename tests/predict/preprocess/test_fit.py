"""Trained arms that say a class: of clips, and of paths."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from support import five_kinds, video_files

from st2llm import tasks
from st2llm.config.model import EncoderSettings, Projection
from st2llm.data import split
from st2llm.errors import DataError
from st2llm.model.arm import build_arm
from st2llm.model.objectives.supervised import Likelihood, objective_of_task
from st2llm.predict.arm import predict_in_batches
from st2llm.predict.preprocess.fit import fit_preprocessor, make_blueprint
from st2llm.train.loop.budget import Budget
from st2llm.train.loop.trainer import evaluate, fit
from st2llm.types import SplitPlan, TrainingWindows, Trajectory, Video

ENCODER = EncoderSettings(d_st=16, patch=4, layers=1)
WAYS = ("left", "right")


def clips(lengths=(12,) * 12) -> list:
    """A square goes to the right, or the same film is shown backwards: single frames say nothing."""
    made = []
    for i, count in enumerate(lengths):
        film, way = video_files.square_film(count, 30, 36), WAYS[i % 2]
        made.append(
            Video(
                name="films",
                id=f"{i:02d}",
                frames=film if way == "right" else film[::-1].copy(),
                time_s=np.arange(count) / 25,
                fps=25.0,
                label=way,
                labels=WAYS,
                split=SplitPlan(0.8, 0.1, 0.1),
            )
        )
    part = split(made, tasks.classify(min(lengths) if len(set(lengths)) == 1 else 0)).train
    return [part[i] for i in range(len(part))]


def paths(count=24) -> list:
    """Walkers who bend, and walkers who go straight, of different numbers of fixes."""
    walks: list[Trajectory] = []
    for i in range(count):
        steps, bends = 8 + i % 5, i % 2 == 0
        angle = (0.4 if bends else 0.0) * np.arange(steps) + i
        xy = np.cumsum(np.stack([np.cos(angle), np.sin(angle)], axis=1), axis=0)
        walk = five_kinds.walk(steps, name=f"w{i}")
        label = "bends" if bends else "straight"
        walks.append(replace(walk, xy=xy, label=label, split=SplitPlan(0.8, 0.1, 0.1, by="object")))
    part = split(walks, tasks.classify()).train
    return [part[i] for i in range(len(part))]


def arm_and_preprocessor(samples, task):
    up = Projection()
    preprocessor = fit_preprocessor(
        TrainingWindows(samples), task, skip="none", encoder=ENCODER, up=up, with_instructions=False
    )
    shape = preprocessor.task_shape(samples[0], task)
    blueprint = make_blueprint(shape, samples[0], ENCODER, llm=None, up=up)
    return build_arm("none", blueprint, seed=0), preprocessor, shape


@pytest.mark.slow
@pytest.mark.parametrize(
    ("samples", "task"), [(clips(), tasks.classify(12)), (paths(), tasks.classify())], ids=["clips", "paths"]
)
def test_an_arm_learns_to_tell_classes_apart(samples, task):
    arm, preprocessor, shape = arm_and_preprocessor(samples, task)
    objective = objective_of_task(shape, torch.from_numpy(preprocessor.scaler.std).float())
    assert isinstance(objective, Likelihood)
    data = preprocessor.collate(samples, with_instructions=False)
    assert evaluate(arm, data, objective, 8) == pytest.approx(
        np.log(2), abs=1e-5
    )  # untrained, it knows nothing
    fit(arm, data, data, Budget(60, 8, 5e-3), objective=objective, seed=0)
    answers = predict_in_batches(arm, preprocessor, samples, batch_size=5, with_instructions=False)
    assert [answer.label for answer in answers] == [sample.label for sample in samples]
    assert all(sorted(answer.ranking) == sorted(samples[0].side.options) for answer in answers)


def test_the_class_is_never_read():
    samples = clips()
    _, preprocessor, _ = arm_and_preprocessor(samples, tasks.classify(12))
    blind = preprocessor.collate([sample.without_truth() for sample in samples], with_instructions=False)
    assert (blind.label == -1).all()
    told = preprocessor.collate(samples, with_instructions=False)
    assert told.label.tolist() == [WAYS.index(sample.label) for sample in samples]
    for name in set(told.tensor_names()) - {"label"}:
        torch.testing.assert_close(getattr(told, name), getattr(blind, name))


def test_a_class_that_is_not_known_costs_nothing():
    samples = clips()
    arm, preprocessor, _ = arm_and_preprocessor(samples, tasks.classify(12))
    batch = preprocessor.collate([samples[0], samples[1].without_truth()], with_instructions=False)
    nats = arm.head.loss(arm(batch), batch)
    assert nats[0] > 0
    assert nats[1] == 0


def test_a_longer_path_is_read_from_its_end():
    samples = paths()
    arm, preprocessor, _ = arm_and_preprocessor(samples, tasks.classify())
    assert preprocessor.shape.points == 12
    long = replace(
        five_kinds.walk(40, name="long"), label="straight", split=SplitPlan(1.0, 0.0, 0.0, by="object")
    )
    part = split([long, *[replace(long, id=f"other {i}") for i in range(3)]], tasks.classify()).train
    asked = replace(part[0], side=replace(part[0].side, options=samples[0].side.options))
    assert predict_in_batches(
        arm, preprocessor, [asked.without_truth()], batch_size=1, with_instructions=False
    )[0].label in (
        "bends",
        "straight",
    )


def test_clips_of_different_lengths_are_not_stacked():
    samples = clips((12, 20) * 6)
    _, preprocessor, _ = arm_and_preprocessor(samples[::2], tasks.classify(12))
    with pytest.raises(DataError, match=r"00/0 has \(12, 9, 2\) .*01/0 has \(20, 9, 2\)"):
        preprocessor.collate(samples, with_instructions=False)
