"""A language model trained on answers to prompts with soft tokens; the loss does not depend on how prompts are
batched.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor, nn

from st2llm.align.splice import splice
from st2llm.config.model import FROZEN, Adaptation
from st2llm.encode.batch import Batch
from st2llm.errors import AlignmentError, ConfigError
from st2llm.llm.architecture.base_model import base_of, check_context
from st2llm.llm.architecture.text_lengths import TextLengths
from st2llm.llm.architecture.windows import FULL, SLIDING, sliding_window_of
from st2llm.llm.decode.lm_head import LMHead
from st2llm.llm.local import LanguageModel
from st2llm.model.arm import ArmSpec, SoftTokenModel
from st2llm.model.backbone import LLMBackbone
from st2llm.model.objectives.objective import SingleTermObjective
from st2llm.types import Slot

PromptPiece = tuple[int, ...] | Slot
"""Token ids, or a slot for soft tokens."""


@dataclass(frozen=True)
class PromptBatch:
    """Prompts with their answers as token ids, and the samples whose soft tokens fill the prompts' slots."""

    prompts: tuple[tuple[PromptPiece, ...], ...]
    answers: tuple[tuple[int, ...], ...]
    data: Batch | None = None

    def __len__(self) -> int:
        return len(self.prompts)

    def take(self, rows: Sequence[int]) -> "PromptBatch":
        data = None if self.data is None else self.data.take(rows)
        return replace(
            self,
            prompts=tuple(self.prompts[i] for i in rows),
            answers=tuple(self.answers[i] for i in rows),
            data=data,
        )

    def to(self, device: torch.device) -> "PromptBatch":
        return replace(self, data=None if self.data is None else self.data.to(device))

    @property
    def tokens(self) -> int:
        """The number of answer tokens."""
        return sum(len(answer) for answer in self.answers)


@dataclass(frozen=True)
class PackedPrompts:
    """Rows that each hold several prompts, at most `length` tokens; prompts do not attend to each other.

    position: counted within each prompt. is_target: where the next token belongs to an answer; target: those
    tokens.
    """

    embeddings: Float[Tensor, "row seq d_lm"]
    position: Int64[Tensor, "row seq"]
    segment: Int64[Tensor, "row seq"]
    is_target: Bool[Tensor, "row seq"]
    target: Int64[Tensor, " answer"]

    def mask(self, dtype: torch.dtype, window: int | None = None) -> Float[Tensor, "row 1 seq seq"]:
        """The additive attention mask: 0 for a token itself and earlier tokens of its prompt, otherwise the
        minimum of dtype.

        window: of layers with sliding-window attention.
        """
        size = self.embeddings.shape[1]
        same = self.segment[:, :, None] == self.segment[:, None, :]
        visible = same & torch.ones(size, size, dtype=torch.bool, device=same.device).tril()
        if window is not None:
            visible = visible & (self.position[:, :, None] - self.position[:, None, :] < window)
        mask = torch.zeros(visible.shape, dtype=dtype, device=same.device)
        return mask.masked_fill(~visible, torch.finfo(dtype).min)[:, None]

    def masks(self, llm: LanguageModel) -> Tensor | dict[str, Tensor]:
        """The mask, or one per attention type where a model also has sliding-window layers."""
        config = llm.model.config.get_text_config()
        window = sliding_window_of(config)
        if window is None or getattr(config, "layer_types", None) is None:
            return self.mask(llm.dtype, window)
        return {FULL: self.mask(llm.dtype), SLIDING: self.mask(llm.dtype, window)}

    def padding(self) -> Int64[Tensor, "row seq"]:
        """1 for tokens of the only prompt of each row, 0 for padding."""
        return (self.segment == 0).long()


def pack_prompts(
    prompts: Sequence[Float[Tensor, "_ d_lm"]],
    answers: Sequence[Float[Tensor, "_ d_lm"]],
    targets: Sequence[Sequence[int]],
    *,
    length: int | None,
) -> PackedPrompts:
    """Packs prompts with their answers, first fit by decreasing length; without a length, one row each.

    The last token of an answer is a target but not an input. Raises AlignmentError for one that is longer than
    `length`.
    """
    sequences = [torch.cat([p, a[:-1]]) for p, a in zip(prompts, answers, strict=True)]
    bins = _pack_into_rows([len(embeddings) for embeddings in sequences], length)
    size = max(sum(len(sequences[i]) for i in members) for members in bins)
    device, d = sequences[0].device, sequences[0].shape[1]
    rows, position, segment, is_target, target = [], [], [], [], []
    for members in bins:
        padding = size - sum(len(sequences[i]) for i in members)
        pad = torch.zeros(padding, d, dtype=sequences[0].dtype, device=device)
        rows.append(torch.cat([*(sequences[i] for i in members), pad]))
        position.append(
            torch.cat(
                [*(torch.arange(len(sequences[i])) for i in members), torch.zeros(padding, dtype=torch.int64)]
            )
        )
        segments = [torch.full((len(sequences[i]),), place) for place, i in enumerate(members)]
        # Each padding token is a segment of its own and attends only to itself.
        segment.append(torch.cat([*segments, len(members) + torch.arange(padding)]))
        spans = [torch.arange(len(sequences[i])) >= len(prompts[i]) - 1 for i in members]
        is_target.append(torch.cat([*spans, torch.zeros(padding, dtype=torch.bool)]))
        target += [token for i in members for token in targets[i]]
    return PackedPrompts(
        embeddings=torch.stack(rows),
        position=torch.stack(position).to(device),
        segment=torch.stack(segment).to(device),
        is_target=torch.stack(is_target).to(device),
        target=torch.tensor(target, dtype=torch.int64, device=device),
    )


def _pack_into_rows(sizes: Sequence[int], length: int | None) -> list[list[int]]:
    if length is None:
        return [[i] for i in range(len(sizes))]
    bins: list[list[int]] = []
    free: list[int] = []
    for i in sorted(range(len(sizes)), key=lambda i: -sizes[i]):
        if sizes[i] > length:
            raise AlignmentError(
                f"A prompt with its answer has {sizes[i]} tokens, but a row holds {length}. Raise `max_length`."
            )
        row = next((b for b, left in enumerate(free) if left >= sizes[i]), None)
        if row is None:
            bins.append([])
            free.append(length)
            row = len(bins) - 1
        bins[row].append(i)
        free[row] -= sizes[i]
    return bins


def answer_nats(
    llm: LanguageModel,
    prompts: Sequence[Float[Tensor, "_ d_lm"]],
    answers: Sequence[Sequence[int]],
    *,
    length: int | None = None,
) -> Float[Tensor, ""]:
    """The negative log-likelihood of the answers in nats, summed over their tokens. prompts: embedded, [seq, d_lm]
    each. length: the row length for packing.

    The output head is evaluated only at positions where an answer token comes next.
    """
    table, lengths = llm.model.get_input_embeddings(), TextLengths(base_of(llm.model))
    device = prompts[0].device
    embedded = [table(torch.tensor(list(answer), device=device)) for answer in answers]
    nats = torch.zeros((), device=device)
    for length_class, rows in lengths.groups(
        [len(p) + len(a) for p, a in zip(prompts, answers, strict=True)]
    ):
        packed = pack_prompts(
            [prompts[i].to(llm.dtype) for i in rows],
            [embedded[i] for i in rows],
            [answers[i] for i in rows],
            length=length,
        )
        with lengths.reading(length_class):
            nats = nats + _packed_nats(llm, packed, is_packed=length is not None)
    return nats


def _packed_nats(llm: LanguageModel, packed: PackedPrompts, *, is_packed: bool) -> Float[Tensor, ""]:
    check_context(llm.model, int(packed.position.max()) + 2)
    states: Tensor = base_of(llm.model)(
        inputs_embeds=packed.embeddings,
        attention_mask=packed.masks(llm) if is_packed else packed.padding(),
        position_ids=packed.position,
        use_cache=False,
    ).last_hidden_state
    logits = LMHead(llm.model).full_logits(states[packed.is_target])
    return nn.functional.cross_entropy(logits, packed.target, reduction="sum")


class PromptedLM(nn.Module):
    """A language model that is trained on answers to text prompts, with or without soft tokens of an encoder.

    blueprint: spec of the encoder and up projection; without it, prompts are text only. length: rows hold
    several prompts, up to this many tokens (packing); None gives each prompt its own row.
    """

    def __init__(
        self,
        llm: LanguageModel,
        adaptation: Adaptation = FROZEN,
        *,
        spec: ArmSpec | None = None,
        seed: int = 0,
        length: int | None = None,
    ) -> None:
        super().__init__()
        self.length = length
        if spec is not None:
            soft_token_model = SoftTokenModel(spec, seed=seed)
            self.encoder, self.up = soft_token_model.encoder, soft_token_model.up
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed + 1)
            self.backbone = LLMBackbone(llm, adaptation)
        if length is not None:
            _check_packing(llm, length)

    @property
    def llm(self) -> LanguageModel:
        return self.backbone.llm

    def embed_prompts(self, batch: PromptBatch) -> list[Float[Tensor, "_ d_lm"]]:
        """Each prompt as embeddings, [seq, d_lm], with soft tokens in their slots."""
        soft = self._soft_tokens(batch.data)
        table = self.llm.model.get_input_embeddings()
        return [self._embed_prompt(prompt, soft, i, table) for i, prompt in enumerate(batch.prompts)]

    def _soft_tokens(self, data: Any) -> Tensor | None:
        if data is None:
            return None
        soft: Tensor = self.up(self.encoder(data)).to(self.llm.dtype)  # type: ignore[operator]
        return soft

    def _embed_prompt(self, prompt: Sequence[PromptPiece], soft: Tensor | None, i: int, table: Any) -> Tensor:
        device = next(self.backbone.base.parameters()).device
        parts = [
            piece
            if isinstance(piece, Slot)
            else table(torch.tensor(list(piece), device=device, dtype=torch.int64))
            for piece in prompt
        ]
        slots = [piece.name for piece in prompt if isinstance(piece, Slot)]
        slot_embeddings = {} if soft is None or not slots else {slots[0]: soft[i]}
        return splice(parts, slot_embeddings)[0]

    def forward(self, batch: PromptBatch) -> Float[Tensor, ""]:
        """The negative log-likelihood of all answers, in nats."""
        return answer_nats(self.llm, self.embed_prompts(batch), batch.answers, length=self.length)

    @torch.inference_mode()
    def generate_answers(self, batch: PromptBatch, *, max_new_tokens: int = 24) -> list[str]:
        """Greedy answers to each prompt, up to the end of the line, at most `max_new_tokens` tokens."""
        self.eval()
        rows = self.embed_prompts(batch)
        lengths, answers = self.backbone.lengths, dict[int, str]()
        for length_class, members in lengths.groups([len(row) + max_new_tokens for row in rows]):
            with lengths.reading(length_class):
                texts = self._generate([rows[i] for i in members], max_new_tokens)
            answers.update(zip(members, texts, strict=True))
        return [answers[i] for i in range(len(rows))]

    def _generate(self, rows: Sequence[Float[Tensor, "_ d_lm"]], max_new_tokens: int) -> list[str]:
        longest = max(len(row) for row in rows)
        check_context(self.llm.model, longest + max_new_tokens)
        embeddings = torch.stack([nn.functional.pad(row, (0, 0, longest - len(row), 0)) for row in rows])
        real = torch.tensor(
            [[0] * (longest - len(row)) + [1] * len(row) for row in rows], device=embeddings.device
        )
        tokenizer = self.llm.tokenizer
        generated = self.llm.model.generate(
            inputs_embeds=embeddings,
            attention_mask=real,
            max_new_tokens=max_new_tokens,
            do_sample=False,
            pad_token_id=tokenizer.pad,
            eos_token_id=list(tokenizer.ends) or None,
        )
        return [_first_line(tokenizer.decode(_before_end(row.tolist(), tokenizer.ends))) for row in generated]


@torch.no_grad()
def _check_packing(llm: LanguageModel, length: int) -> None:
    """Raises ConfigError for a model in which prompts of one row are not read as if each had its own."""
    table, answers = llm.model.get_input_embeddings(), [(3, 5), (7,)]
    prompts = [table(torch.arange(size, device=llm.device)) for size in (6, 4)]
    try:
        apart = float(answer_nats(llm, prompts, answers))
        off = abs(float(answer_nats(llm, prompts, answers, length=max(length, 12))) - apart)
        if not off <= (1e-3 if llm.dtype == torch.float32 and llm.quant == "none" else 0.1) * max(apart, 1.0):
            raise ValueError(f"the loss of packed prompts is off by {off:.3g} of {apart:.3g}")
    except (LookupError, AttributeError, TypeError, ValueError, RuntimeError) as error:
        raise ConfigError(
            f"{type(llm.model).__name__} cannot be trained on packed prompts: {type(error).__name__}: {error}. Set "
            f"packing: false."
        ) from error


def _before_end(ids: list[int], ends: Sequence[int]) -> list[int]:
    return ids[: next((i for i, token in enumerate(ids) if token in ends), len(ids))]


def _first_line(text: str) -> str:
    lines = text.strip().splitlines()
    return lines[0].strip() if lines else ""


class AnswerLoss(SingleTermObjective):
    """Negative log-likelihood in nats per answer token; prompt tokens are not trained on."""

    name = "language"

    def counts(self, batch: PromptBatch) -> dict[str, int]:
        return {self.name: batch.tokens}

    def totals(self, arm: nn.Module, batch: PromptBatch) -> dict[str, Tensor]:
        return {self.name: arm(batch)}
