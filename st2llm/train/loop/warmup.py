"""Trains an encoder alone, under a head of its own, before it is joined to a backbone."""

from pathlib import Path

from safetensors.torch import load_file, save
from torch import Tensor

from st2llm.config.training import WarmupSettings
from st2llm.encode.batch import Batch
from st2llm.files import write_atomically
from st2llm.model.arm import ArmSpec, EncoderWithHead
from st2llm.model.objectives.objective import Objective
from st2llm.train.loop.budget import Budget, StepCallback
from st2llm.train.loop.trainer import fit


def warm_up_encoder(
    path: Path,
    blueprint: ArmSpec,
    train: Batch,
    validation: Batch,
    settings: WarmupSettings,
    *,
    objective: Objective,
    seed: int,
    on_step: StepCallback = lambda step: None,
) -> dict[str, Tensor]:
    """The state of an encoder trained alone, stored in `path`; where the file exists, it is loaded instead.

    Where the encoder was trained on other data, the state of its head is included, as `head.*`.
    """
    if not path.exists():
        probe = EncoderWithHead(blueprint, seed=seed)
        budget = Budget(**settings.model_dump(include={"steps", "batch", "lr", "ema_decay"}))
        fit(probe, train, validation, budget, objective=objective, seed=seed, on_step=on_step)
        state = {name: tensor.contiguous() for name, tensor in probe.encoder.state_dict().items()}
        if settings.data is not None:
            state |= {f"head.{name}": tensor.contiguous() for name, tensor in probe.head.state_dict().items()}
        write_atomically(path, lambda file: file.write_bytes(save(state)))
    loaded: dict[str, Tensor] = load_file(path)
    return loaded
