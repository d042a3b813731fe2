"""Arms through a language model for every kind of data: six samples, their task, the arm, its batch and objective."""

from dataclasses import replace

import numpy as np
import torch

import st2llm
from st2llm import tasks
from st2llm.config.model import Adaptation, EncoderSettings, Projection
from st2llm.encode.field import edges_of
from st2llm.model.arm import arm_spec, build_arm
from st2llm.model.objectives.supervised import Likelihood, Regression
from st2llm.predict.preprocess.fit import fit_preprocessor
from st2llm.types import NO_EDGES, TrainingWindows
from support import five_kinds

ENCODER = EncoderSettings(d_st=16, patch=4, layers=1, graph="gcn", mixer="mlp")


def flickering(clip):
    """The clip under a light that changes, so that no region is constant."""
    light = np.rint(12 * np.sin(np.arange(len(clip.frames)) / 2)).astype(int)[:, None, None, None]
    return replace(clip, frames=np.clip(clip.frames.astype(int) + light, 0, 255).astype(np.uint8))


def problem(kind):
    """Six samples and their task."""
    if kind == "graph":
        task = tasks.forecast(12, 3)
        data = five_kinds.graph()
    elif kind == "grid":
        task, data = tasks.forecast(4, 1), five_kinds.grid(40)
    elif kind == "video":
        task = tasks.forecast(6, 2)
        clips = [flickering(five_kinds.clip(40, name=f"c{i}", step=-1 - i)) for i in range(2)]
        part = st2llm.split(clips, task, stride=2).train
        return [part[i] for i in range(6)], task
    elif kind == "trajectory":
        task = tasks.forecast(8, 4)
        walks = [five_kinds.walk(12, name=f"w{i}", east=1 + 0.3 * i, north=0.2 * i) for i in range(6)]
        straight = [five_kinds.walk_sample(walk, 8) for walk in walks]
        bent = [replace(s, truth=s.truth + 4.0 * (i % 3 - 1)) for i, s in enumerate(straight)]
        return bent, task
    else:
        return five_kinds.event_samples(five_kinds.events(40), 12)[:6], tasks.next_event(12)
    part = st2llm.split(data, task, stride=1).train
    return [part[i] for i in range(6)], task


def joined(kind, llm, *, up=None, how=None, seed=0):
    """An arm through a language model, its batch and its objective."""
    samples, task = problem(kind)
    up, how = up or Projection(), how or Adaptation()
    preprocessor = fit_preprocessor(
        TrainingWindows(samples), task, skip="none", encoder=ENCODER, up=up, with_instructions=True
    )
    field = kind in ("graph", "grid", "video")
    shape = preprocessor.task_shape(samples[0], task)
    blueprint = arm_spec(shape, edges_of(samples[0]) if field else NO_EDGES, ENCODER, llm=llm, up=up)
    arm = build_arm("llm-frozen" if how.frozen else "llm-lora", blueprint, seed=seed, llm=llm, adaptation=how)
    batch = preprocessor.collate(samples, with_instructions=True)
    objective = Regression(torch.from_numpy(preprocessor.scaler.std).float()) if field else Likelihood()
    return arm, objective.draw(batch, torch.Generator().manual_seed(0)), objective
