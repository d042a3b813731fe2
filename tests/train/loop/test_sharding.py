"""Layers that are spread over two processes train as in one, also beside weights that are whole and those of bf16."""

import os
import subprocess
import sys

import pytest
import torch
from torch import nn

from st2llm.errors import TrainingError
from st2llm.train.loop import sharding, trainer

_TWO_PROCESSES = """
import torch
import torch.distributed as dist
from torch import nn
from st2llm.train.loop import sharding


class Layer(nn.Module):
    def __init__(self):
        super().__init__()
        self.frozen = nn.Linear(8, 8).to(torch.bfloat16).requires_grad_(False)
        self.adapter = nn.Linear(8, 8, bias=False)

    def forward(self, x):
        return x + self.frozen(x.bfloat16()).float().tanh() + self.adapter(x)


class Model(nn.Module):
    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.whole, self.layers = nn.Linear(8, 8), nn.ModuleList(Layer() for _ in range(2))

    def forward(self, x):
        for layer in self.layers:
            x = layer(x)
        return x

    def loss(self, x):
        return self(self.whole(x)).square().sum() / 6


dist.init_process_group("gloo")
rank, world = dist.get_rank(), dist.get_world_size()
alone, spread = Model(), Model()
sharding.shard(spread, spread.layers, torch.device("cpu"))
parameters = [[p for p in model.parameters() if p.requires_grad] for model in (alone, spread)]
optimisers = [
    torch.optim.AdamW([{"params": g} for g in sharding.groups(given)], lr=1e-2, fused=True) for given in parameters
]
x = torch.randn(6, 8, generator=torch.Generator().manual_seed(1))
for _ in range(3):
    alone.loss(x).backward()
    nn.utils.clip_grad_norm_(parameters[0], 0.5)
    for part in range(2):  # of a step: gradients are accumulated
        (spread.loss(x[part * world + rank :: 2 * world]) * world).backward()
    sharding.average_gradients(parameters[1])
    sharding.clip_gradients(parameters[1], 0.5)
    for optimiser in optimisers:
        optimiser.step()
        optimiser.zero_grad()
    with torch.no_grad():  # an evaluation
        spread.loss(x)
for (name, expected), actual in zip(alone.named_parameters(), spread.parameters(), strict=True):
    assert actual.numel() == expected.numel()
    torch.testing.assert_close(sharding.gather(actual), expected.detach(), atol=1e-5, rtol=1e-5)
    if ".adapter" in name:
        assert actual.to_local().numel() == expected.numel() // world
        restored = sharding.place_like(torch.full(expected.shape, 2.0), actual)
        assert type(restored) is not torch.Tensor and float(sharding.gather(restored).sum()) == 128.0
dist.destroy_process_group()
"""


@pytest.mark.slow
def test_two_processes_train_spread_layers_as_one_process_does(tmp_path):
    script = tmp_path / "script.py"
    script.write_text(_TWO_PROCESSES)
    done = subprocess.run(
        [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node=2", str(script)],
        env={
            **os.environ,
            "OMP_NUM_THREADS": "1",
            "PYTHONPATH": os.pathsep.join(filter(None, sys.path)),
        },
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr[-3000:]


def test_what_is_not_a_language_model_is_refused_with_a_config_that_trains_it():
    with pytest.raises(
        TrainingError, match=r"FSDP spreads the layers of a language model .*eight-gpus\.yaml"
    ):
        trainer._shard(nn.Linear(2, 2), torch.device("cpu"))


def test_a_launch_under_deepspeed_names_the_config_that_saves_as_much(monkeypatch):
    """accelerate ended with an ImportError, or, where DeepSpeed is there, trained without it."""
    monkeypatch.setenv("ACCELERATE_USE_DEEPSPEED", "true")
    with pytest.raises(TrainingError, match=r"launched with a config of DeepSpeed.*eight-gpus-fsdp\.yaml"):
        sharding.check_launch()


def test_without_processes_tensors_are_whole():
    weight = nn.Parameter(torch.ones(2))
    copy = sharding.gather(weight)
    assert torch.equal(copy, weight) and copy.data_ptr() != weight.data_ptr() and not copy.requires_grad
    assert sharding.groups([weight]) == [[weight]]
    assert sharding.place_like(copy, weight) is copy
