"""Seconds of a soft-token training step, against bare loops on the same embeddings and the step as others write it.

python benchmarks/soft_step.py [--json] [--repeats N] [--depth N] [--llm NAME]

128 instruction tokens, batch 8, 12 or 64 soft tokens a sample, a frozen model in its best dtype. All variants take
turns within each round, so that a machine's moods meet them alike; ratios are of medians.

ours: encoder embeddings -> projection head -> model with remembered instruction -> read-out -> loss, backward, AdamW.
floor: forward and backward of the model alone, on soft embeddings with the same remembered instruction.
no prefix: the same without any instruction. peers: fp32, the instruction read anew at every step, all hidden states
kept.
"""

import argparse
import json
import statistics
import time
from collections.abc import Callable

import torch
from torch import Tensor, nn
from transformers import DynamicCache

from st2llm.align.projection import build_down_projection, build_up_projection
from st2llm.config.model import FROZEN, Adaptation, Projection
from st2llm.devices import best_device, synchronise
from st2llm.llm import load_llm
from st2llm.llm.local import LanguageModel
from st2llm.model.attention import attention_for_training
from st2llm.model.backbone import LLMBackbone
from st2llm.model.prompt_cache import PromptCache

BATCH, WORDS, D_ST = 8, 128, 64
WANTED = {"over_floor": 1.15, "over_no_prefix": 1.4, "peers_over_ours_12": 10.0, "peers_over_ours_64": 5.0}


def instruction(llm: LanguageModel) -> str:
    """Words of exactly so many tokens."""
    ids = llm.tokenizer.encode(
        "Forecast the number of pedestrians an hour at each counter, from the readings. " * 12
    )
    text = llm.tokenizer.decode(ids[:WORDS])
    if len(llm.tokenizer.encode(text)) != WORDS:
        raise SystemExit(f"The instruction should have {WORDS} tokens, but has another number.")
    return text


class Ours(nn.Module):
    """What an arm does behind its encoder, with a loss and an optimiser."""

    def __init__(self, llm: LanguageModel, adaptation: Adaptation = FROZEN) -> None:
        super().__init__()
        how = Projection()
        self.up = build_up_projection(how, D_ST, llm.d_lm, token_rms=llm.token_rms)
        self.down = build_down_projection(how, llm.d_lm, D_ST)
        self.backbone = LLMBackbone(llm, adaptation)

    def forward(self, z: Tensor, words: tuple[str, ...]) -> Tensor:
        states, mean = self.backbone(self.up(z), words)
        return self.down(z, states, mean, slice(None))


def ours(llm: LanguageModel, text: str, tokens: int) -> Callable[[], None]:
    arm = Ours(llm).to(llm.device)
    optimiser = torch.optim.AdamW([p for p in arm.parameters() if p.requires_grad], lr=1e-3, fused=True)
    z, target = torch.randn(2, BATCH, tokens, D_ST).to(llm.device)
    words = (text,) * BATCH

    def step() -> None:
        loss = (arm(z, words) - target).square().mean()
        loss.backward()
        optimiser.step()
        optimiser.zero_grad()

    return step


def bare(llm: LanguageModel, text: str, tokens: int, *, prefix: bool) -> Callable[[], None]:
    """Forward and backward of the model on embeddings that want a gradient, and nothing else."""
    memory = PromptCache(llm)
    soft = (llm.token_rms * torch.randn(BATCH, tokens, llm.d_lm)).to(llm.device, llm.dtype).requires_grad_()

    def step() -> None:
        past, length = DynamicCache(), 0
        if prefix:
            past, lengths, _ = memory.lookup((text,) * BATCH)
            length = int(lengths.max())
        with attention_for_training(llm, BATCH * tokens * (length + tokens)):
            states = llm.model.base_model(
                inputs_embeds=soft,
                attention_mask=torch.ones(BATCH, length + tokens, dtype=torch.long, device=llm.device),
                position_ids=(length + torch.arange(tokens, device=llm.device)).expand(BATCH, -1),
                past_key_values=past,
                use_cache=prefix,
            ).last_hidden_state
        states.float().square().mean().backward()
        soft.grad = None

    return step


def peers(llm: LanguageModel, text: str, tokens: int) -> Callable[[], None]:
    """As Time-LLM and its like write it: everything in fp32, the instruction in every step, every layer's states."""
    up, down = nn.Linear(D_ST, llm.d_lm).to(llm.device), nn.Linear(llm.d_lm, D_ST).to(llm.device)
    optimiser = torch.optim.AdamW([*up.parameters(), *down.parameters()], lr=1e-3)
    z, target = torch.randn(2, BATCH, tokens, D_ST).to(llm.device)
    ids = torch.tensor([llm.tokenizer.encode(text)] * BATCH, device=llm.device)

    def step() -> None:
        words = llm.model.get_input_embeddings()(ids)
        out = llm.model.base_model(
            inputs_embeds=torch.cat([words, up(z)], dim=1), output_hidden_states=True, use_cache=False
        )
        loss = (down(out.hidden_states[-1][:, -tokens:]) - target).square().mean()
        loss.backward()
        optimiser.step()
        optimiser.zero_grad()

    return step


def measure(steps: dict[str, Callable[[], None]], repeats: int) -> dict[str, float]:
    """Median seconds of each, all of them in turn in each round; the first round is not counted."""
    times: dict[str, list[float]] = {name: [] for name in steps}
    for round_ in range(repeats + 1):
        for name, step in steps.items():
            began = time.perf_counter()
            step()
            synchronise(best_device())
            if round_:
                times[name].append(time.perf_counter() - began)
    return {name: statistics.median(found) for name, found in times.items()}


def main() -> None:
    reader = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    reader.add_argument("--json", action="store_true", help="print one JSON object")
    reader.add_argument("--repeats", type=int, default=7)
    reader.add_argument("--llm", default="smollm2-135m")
    reader.add_argument("--depth", type=int, default=None)
    asked = reader.parse_args()
    torch.manual_seed(0)
    llm = load_llm(asked.llm, depth=asked.depth, dtype="auto")
    whole = load_llm(asked.llm, depth=asked.depth, dtype="fp32")
    text = instruction(llm)
    steps: dict[str, Callable[[], None]] = {}
    for tokens in (12, 64):
        steps[f"ours {tokens}"] = ours(llm, text, tokens)
        steps[f"floor {tokens}"] = bare(llm, text, tokens, prefix=True)
        steps[f"no prefix {tokens}"] = bare(llm, text, tokens, prefix=False)
        steps[f"peers {tokens}"] = peers(whole, text, tokens)
    found = measure(steps, asked.repeats)
    made = {
        "over_floor": max(found[f"ours {n}"] / found[f"floor {n}"] for n in (12, 64)),
        "over_no_prefix": max(found[f"ours {n}"] / found[f"no prefix {n}"] for n in (12, 64)),
        "peers_over_ours_12": found["peers 12"] / found["ours 12"],
        "peers_over_ours_64": found["peers 64"] / found["ours 64"],
        "seconds": found,
        "repeats": asked.repeats,
        "dtype": str(llm.dtype).removeprefix("torch."),
        "depth": llm.depth,
    }
    if asked.json:
        print(json.dumps(made))
        return
    for name, seconds in found.items():
        print(f"{name:>13}: {1000 * seconds:8.1f} ms")
    for name, limit in WANTED.items():
        print(f"{name}: {made[name]:.2f} (asked: at {'least' if 'peers' in name else 'most'} {limit:g})")
    print(f"Median of {asked.repeats} rounds, {llm.name} in {made['dtype']}, {llm.depth} layers.")


if __name__ == "__main__":
    main()
