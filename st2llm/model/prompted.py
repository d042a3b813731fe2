"""Known answers after words and soft tokens: what they cost a language model in nats, whichever rows share a batch."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor, nn

from st2llm.align.splice import splice
from st2llm.config.model import FROZEN, Adaptation
from st2llm.encode.batch import Batch
from st2llm.errors import AlignmentError
from st2llm.llm.decode.lm_head import LMHead
from st2llm.llm.local import LanguageModel
from st2llm.model.arm import Blueprint, Speaking
from st2llm.model.backbone import LLMBackbone, window_of
from st2llm.model.objectives.objective import OneTerm
from st2llm.types import Slot

Piece = tuple[int, ...] | Slot
"""Tokens of words, or a place that soft tokens fill."""


@dataclass(frozen=True)
class Talk:
    """Prompts with their answers as tokens, and the samples whose soft tokens fill the prompts' slots."""

    prompts: tuple[tuple[Piece, ...], ...]
    answers: tuple[tuple[int, ...], ...]
    data: Batch | None = None

    def __len__(self) -> int:
        return len(self.prompts)

    def take(self, rows: Sequence[int]) -> "Talk":
        data = None if self.data is None else self.data.take(rows)
        return replace(
            self,
            prompts=tuple(self.prompts[i] for i in rows),
            answers=tuple(self.answers[i] for i in rows),
            data=data,
        )

    def to(self, device: torch.device) -> "Talk":
        return replace(self, data=None if self.data is None else self.data.to(device))

    @property
    def tokens(self) -> int:
        """How many tokens the answers have."""
        return sum(len(answer) for answer in self.answers)


@dataclass(frozen=True)
class Packed:
    """Rows of several prompts behind each other, `length` at most: none hears another.

    position: counted within each prompt. asked: where the next token is one of an answer, and target: which.
    """

    rows: Float[Tensor, "row seq d_lm"]
    position: Int64[Tensor, "row seq"]
    segment: Int64[Tensor, "row seq"]
    asked: Bool[Tensor, "row seq"]
    target: Int64[Tensor, " answer"]

    def mask(self, dtype: torch.dtype, window: int | None = None) -> Float[Tensor, "row 1 seq seq"]:
        """Each token hears itself and what is before it in its own prompt: 0 there, else the least of dtype.

        window: of layers that hear the last so many tokens alone.
        """
        size = self.rows.shape[1]
        same = self.segment[:, :, None] == self.segment[:, None, :]
        hears = same & torch.ones(size, size, dtype=torch.bool, device=same.device).tril()
        if window is not None:
            hears = hears & (self.position[:, :, None] - self.position[:, None, :] < window)
        mask = torch.zeros(hears.shape, dtype=dtype, device=same.device)
        return mask.masked_fill(~hears, torch.finfo(dtype).min)[:, None]

    def masks(self, llm: LanguageModel) -> Tensor | dict[str, Tensor]:
        """The mask, or those by sort of layer where a model's layers differ in how far they hear."""
        whole, window = self.mask(llm.dtype), window_of(llm)
        if window is None:
            return whole
        return {"full_attention": whole, "sliding_attention": self.mask(llm.dtype, window)}


def pack(
    prompts: Sequence[Float[Tensor, "_ d_lm"]],
    answers: Sequence[Float[Tensor, "_ d_lm"]],
    targets: Sequence[Sequence[int]],
    *,
    length: int | None,
) -> Packed:
    """Prompts and the answers after them, first fit by decreasing length; without a length a row for each.

    The last token of an answer is asked for and not read. Raises AlignmentError for one that is longer than `length`.
    """
    whole = [torch.cat([p, a[:-1]]) for p, a in zip(prompts, answers, strict=True)]
    bins = _bins([len(rows) for rows in whole], length)
    size = max(sum(len(whole[i]) for i in members) for members in bins)
    device, d = whole[0].device, whole[0].shape[1]
    rows, position, segment, asked, target = [], [], [], [], []
    for members in bins:
        left = size - sum(len(whole[i]) for i in members)
        pad = torch.zeros(left, d, dtype=whole[0].dtype, device=device)
        rows.append(torch.cat([*(whole[i] for i in members), pad]))
        position.append(
            torch.cat([*(torch.arange(len(whole[i])) for i in members), torch.zeros(left, dtype=torch.int64)])
        )
        marks = [torch.full((len(whole[i]),), place) for place, i in enumerate(members)]
        # Padding hears itself alone: a segment of its own for each token.
        segment.append(torch.cat([*marks, len(members) + torch.arange(left)]))
        spans = [torch.arange(len(whole[i])) >= len(prompts[i]) - 1 for i in members]
        asked.append(torch.cat([*spans, torch.zeros(left, dtype=torch.bool)]))
        target += [token for i in members for token in targets[i]]
    return Packed(
        rows=torch.stack(rows),
        position=torch.stack(position).to(device),
        segment=torch.stack(segment).to(device),
        asked=torch.stack(asked).to(device),
        target=torch.tensor(target, dtype=torch.int64, device=device),
    )


def _bins(sizes: Sequence[int], length: int | None) -> list[list[int]]:
    if length is None:
        return [[i] for i in range(len(sizes))]
    bins: list[list[int]] = []
    room: list[int] = []
    for i in sorted(range(len(sizes)), key=lambda i: -sizes[i]):
        if sizes[i] > length:
            raise AlignmentError(
                f"A prompt with its answer has {sizes[i]} tokens, but a row holds {length}. Raise `max_length`."
            )
        place = next((b for b, left in enumerate(room) if left >= sizes[i]), None)
        if place is None:
            bins.append([])
            room.append(length)
            place = len(bins) - 1
        bins[place].append(i)
        room[place] -= sizes[i]
    return bins


def nats(
    llm: LanguageModel,
    prompts: Sequence[Float[Tensor, "_ d_lm"]],
    answers: Sequence[Sequence[int]],
    *,
    length: int | None = None,
) -> Float[Tensor, ""]:
    """What the answers cost in nats, summed over their tokens. prompts: embedded. length: rows are packed up to it.

    The head over the vocabulary is evaluated where an answer's token comes next, and nowhere else.
    """
    table = llm.model.get_input_embeddings()
    device = prompts[0].device
    embedded = [table(torch.tensor(list(answer), device=device)) for answer in answers]
    packed = pack([p.to(llm.dtype) for p in prompts], embedded, answers, length=length)
    states: Tensor = llm.model.base_model(
        inputs_embeds=packed.rows,
        attention_mask=packed.masks(llm),
        position_ids=packed.position,
        use_cache=False,
    ).last_hidden_state
    logits = LMHead(llm.model).full_logits(states[packed.asked])
    return nn.functional.cross_entropy(logits, packed.target, reduction="sum")


class Speaker(nn.Module):
    """A language model that is taught answers: to words alone, or to words with soft tokens of an encoder among them.

    blueprint: of the encoder and head that make soft tokens; without one, prompts are words alone. length: rows hold
    several prompts, up to so many tokens (packing); None gives each prompt a row of its own.
    """

    def __init__(
        self,
        llm: LanguageModel,
        how: Adaptation = FROZEN,
        *,
        blueprint: Blueprint | None = None,
        seed: int = 0,
        length: int | None = None,
    ) -> None:
        super().__init__()
        self.length = length
        if blueprint is not None:
            spoken = Speaking(blueprint, seed=seed)
            self.encoder, self.up = spoken.encoder, spoken.up
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed + 1)
            self.backbone = LLMBackbone(llm, how)

    @property
    def llm(self) -> LanguageModel:
        return self.backbone.llm

    def embedded(self, talk: Talk) -> list[Float[Tensor, "_ d_lm"]]:
        """Each prompt as the rows that the language model reads, soft tokens in their places."""
        soft = self._soft(talk.data)
        table = self.llm.model.get_input_embeddings()
        return [self._row(prompt, soft, i, table) for i, prompt in enumerate(talk.prompts)]

    def _soft(self, data: Any) -> Tensor | None:
        if data is None:
            return None
        soft: Tensor = self.up(self.encoder(data)).to(self.llm.dtype)  # type: ignore[operator]
        return soft

    def _row(self, prompt: Sequence[Piece], soft: Tensor | None, i: int, table: Any) -> Tensor:
        device = next(self.backbone.base.parameters()).device
        parts = [
            piece
            if isinstance(piece, Slot)
            else table(torch.tensor(list(piece), device=device, dtype=torch.int64))
            for piece in prompt
        ]
        slots = [piece.name for piece in prompt if isinstance(piece, Slot)]
        given = {} if soft is None or not slots else {slots[0]: soft[i]}
        return splice(parts, given)[0]

    def forward(self, talk: Talk) -> Float[Tensor, ""]:
        """Nats of all answers together."""
        return nats(self.llm, self.embedded(talk), talk.answers, length=self.length)

    @torch.inference_mode()
    def answers(self, talk: Talk, *, tokens: int = 24) -> list[str]:
        """Its own answer to each prompt: the most probable tokens, to the end of a line, `tokens` at most."""
        self.eval()
        rows = self.embedded(talk)
        longest = max(len(row) for row in rows)
        batch = torch.stack([nn.functional.pad(row, (0, 0, longest - len(row), 0)) for row in rows])
        real = torch.tensor(
            [[0] * (longest - len(row)) + [1] * len(row) for row in rows], device=batch.device
        )
        tokenizer = self.llm.tokenizer
        said = self.llm.model.generate(
            inputs_embeds=batch,
            attention_mask=real,
            max_new_tokens=tokens,
            do_sample=False,
            pad_token_id=tokenizer.pad,
        )
        return [_first_line(tokenizer.decode(_until(row.tolist(), tokenizer.eos))) for row in said]


def _until(ids: list[int], end: int | None) -> list[int]:
    return ids[: ids.index(end)] if end in ids else ids


def _first_line(text: str) -> str:
    lines = text.strip().splitlines()
    return lines[0].strip() if lines else ""


class Telling(OneTerm):
    """Nats a token of the answers, theirs alone: what the prompts say is not learned."""

    name = "language"

    def counts(self, batch: Talk) -> dict[str, int]:
        return {self.name: batch.tokens}

    def totals(self, arm: nn.Module, batch: Talk) -> dict[str, Tensor]:
        return {self.name: arm(batch)}
