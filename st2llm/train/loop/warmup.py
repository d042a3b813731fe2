"""An encoder that is trained alone, under a head of its own, before it speaks to anything."""

from pathlib import Path

from safetensors.torch import load_file, save
from torch import Tensor

from st2llm.config.training import WarmupSettings
from st2llm.encode.batch import Batch
from st2llm.files import write_whole
from st2llm.model.arm import Blueprint, Probe
from st2llm.model.objectives.objective import Objective
from st2llm.train.loop.trainer import Budget, StepCallback, fit


def warm_up_encoder(
    path: Path,
    blueprint: Blueprint,
    train: Batch,
    validation: Batch,
    settings: WarmupSettings,
    *,
    objective: Objective,
    seed: int,
    tick: StepCallback = lambda step: None,
) -> dict[str, Tensor]:
    """The state of an encoder trained so, kept in `path`; what is there already is not trained again.

    Where it was trained on other data, the state of its head stands beside it, as `head.*`.
    """
    if not path.exists():
        probe = Probe(blueprint, seed=seed)
        budget = Budget(**settings.model_dump(include={"steps", "batch", "lr", "ema_decay"}))
        fit(probe, train, validation, budget, objective=objective, seed=seed, tick=tick)
        state = {name: tensor.contiguous() for name, tensor in probe.encoder.state_dict().items()}
        if settings.data is not None:
            state |= {f"head.{name}": tensor.contiguous() for name, tensor in probe.head.state_dict().items()}
        write_whole(path, lambda file: file.write_bytes(save(state)))
    loaded: dict[str, Tensor] = load_file(path)
    return loaded
