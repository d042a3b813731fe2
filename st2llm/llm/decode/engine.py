"""Many answers at once from one frozen model: nothing computed twice, nothing computed for nothing."""

import time
from collections.abc import Sequence

import numpy as np
import torch
from jaxtyping import Float, Float64
from torch import Tensor
from transformers import PreTrainedModel

from st2llm.errors import ConfigError
from st2llm.llm.decode.attention import Growing, Keys, Reading, forward, packed
from st2llm.llm.decode.batching import PASS_TOKENS, batches, bytes_per_token, chunks, shared
from st2llm.llm.decode.lm_head import Head
from st2llm.llm.decode.packed_layers import Laid
from st2llm.llm.decode.requests import Draw, Question, Row, chances, drawn, path
from st2llm.llm.decode.token_tree import Tree
from st2llm.llm.grammar.automaton import State
from st2llm.types import Decoding

VERSION = "2"
"""Raised whenever the same question may get another answer from the same weights."""
RIDING_ROWS = 64
"""Up to so many rows forced tokens are read with the one before them also where only some rows have any.

With more, a step is no cheaper by the token for being larger, and attention would pay for the rows that have none.
"""


class Engine:
    """Answers questions in batches, and scores texts, with one frozen causal language model.

    memory_mb: keys and values held at once. A beginning that prompts share is read once; a prompt's draws share its
    keys and values; forced tokens are read together with the token before them; the head is evaluated on allowed
    tokens alone; whole answers leave the batch. Raises ConfigError for a model whose layers do not let their
    attention be replaced, or whose logits come out otherwise so.
    """

    def __init__(self, model: PreTrainedModel, *, native_bf16: bool, memory_mb: int = 2048) -> None:
        self.model = model
        self.head = Head(model)
        self._laid = Laid(model.base_model, native_bf16=native_bf16)
        self._budget = memory_mb * 2**20 // bytes_per_token(model)
        self._check()

    @torch.inference_mode()
    def answer(self, questions: Sequence[Question], decoding: Decoding) -> list[Draw]:
        """The draws of the first question, then those of the second: `len(questions) * decoding.draws` answers.

        Raises ConfigError for a question that is empty or, with its answer, longer than the model's context.
        """
        self._check_lengths(questions)
        found: dict[int, list[Draw]] = {}
        with packed(self.model), self._laid.used():
            begun = shared([question.ids for question in questions])
            trunk = self._trunk(questions[0].ids[:begun]) if begun else None
            for batch in batches(questions, decoding.draws, begun, self._budget):
                draws = self._batch([questions[i] for i in batch], decoding, trunk)
                found.update(zip(batch, draws, strict=True))
        return [draw for i in range(len(questions)) for draw in found[i]]

    @torch.inference_mode()
    def likelihoods(
        self, prefix: Sequence[int], candidates: Sequence[Sequence[int]]
    ) -> Float64[np.ndarray, " _"]:
        """Log-probability in nats of each candidate's tokens after the prefix, over the whole vocabulary.

        The prefix is read once, and so is every beginning that candidates share. Raises ConfigError for an empty
        prefix or candidate, or where they do not fit into the model's context.
        """
        if not prefix:
            raise ConfigError(
                "Candidates are scored behind a prompt, but the prompt is empty. Give it words."
            )
        tree = Tree(candidates)
        self._check_context([len(prefix)], tree.height)
        with packed(self.model), self._laid.used():
            reading = Reading([len(prefix)], keep=True)
            hidden = forward(self.model, prefix, reading.positions(self.model.device), reading)
            before = self.head.full(hidden[-1:]).log_softmax(-1)[0]
            total = before[torch.tensor(tree.first, device=before.device)].double().cpu().numpy()
            for part in tree.parts(PASS_TOKENS):
                below = Reading([len(part.ids)], trunk=reading.kept[0], seen=[part.seen])
                states = forward(self.model, part.ids, below.positions(self.model.device), below)
                parents = torch.tensor([parent for parent, _ in part.asked], device=states.device)
                tokens = torch.tensor([token for _, token in part.asked], device=states.device)
                gained = self.head.logprob(states, parents, tokens).double().cpu().numpy()
                np.add.at(total, part.owner, gained)
        return total

    @torch.inference_mode()
    def hidden(self, texts: Sequence[Sequence[int]]) -> list[Float[Tensor, "token d_lm"]]:
        """Hidden states after the last norm of each text, read alone but together."""
        self._check_context([len(text) for text in texts], 0)
        with packed(self.model), self._laid.used():
            return [states for chunk in chunks(texts) for states in self._read(chunk, None, keep=False)[0]]

    def log_likelihood(self, questions: Sequence[Question], answers: Sequence[Sequence[int]]) -> list[float]:
        """Log-probability in nats of each answer under its grammar, its end included; nan where it is not allowed.

        Each token counts among those that the grammar allows there, so that all possible answers sum to one.
        """
        self._check_lengths(questions)
        paths = [
            path(question.automaton, answer) for question, answer in zip(questions, answers, strict=True)
        ]
        texts = [[*question.ids, *answer] for question, answer in zip(questions, answers, strict=True)]
        found = []
        for question, passed, states in zip(questions, paths, self.hidden(texts), strict=True):
            found.append(float("nan") if passed is None else self._path_logprob(question, passed, states))
        return found

    def _path_logprob(
        self, question: Question, passed: list[tuple[State, tuple[int, ...]]], states: Tensor
    ) -> float:
        start = len(question.ids) - 1
        choices = [(i, step) for i, step in enumerate(passed) if step[0].ids is None or len(step[0].ids) > 1]
        if not choices:
            return 0.0
        rows = states[torch.tensor([start + i for i, _ in choices], device=states.device)]
        logprobs, columns = self.head.allowed(rows, [step[0] for _, step in choices])
        total = 0.0
        for row, (_, (_, tokens)) in zip(logprobs, choices, strict=True):
            at = (
                torch.from_numpy(np.searchsorted(columns, np.array(tokens)))
                if columns is not None
                else torch.tensor(tokens)
            )
            total += float(row[at].logsumexp(0))
        return total

    def _batch(
        self, questions: Sequence[Question], decoding: Decoding, trunk: Keys | None
    ) -> list[list[Draw]]:
        began = time.perf_counter()
        before = 0 if trunk is None else len(trunk)
        rows = [
            Row(b, question.automaton.start, chances(question, decoding, draw))
            for b, question in enumerate(questions)
            for draw in range(decoding.draws)
        ]
        for row in rows:
            row.force()
        texts = [
            [*question.ids[before:], *rows[b * decoding.draws].tokens] for b, question in enumerate(questions)
        ]
        for row in rows:
            row.read(None)
        if any(not row.state.ended for row in rows):
            self._grow(rows, self._prefill(texts, trunk), decoding, trunk)
        seconds = (time.perf_counter() - began) / len(rows)
        done = [
            drawn(
                row,
                shared=before if i % decoding.draws == 0 else len(questions[row.question].ids),
                seconds=seconds,
            )
            for i, row in enumerate(rows)
        ]
        return [done[i : i + decoding.draws] for i in range(0, len(done), decoding.draws)]

    def _prefill(self, texts: Sequence[Sequence[int]], trunk: Keys | None) -> tuple[Tensor, list[Keys]]:
        last, kept = [], []
        for chunk in chunks(texts):
            states, keys = self._read(chunk, trunk, keep=True)
            last += [state[-1] for state in states]
            kept += keys
        return torch.stack(last), kept

    def _read(
        self, texts: Sequence[Sequence[int]], trunk: Keys | None, *, keep: bool
    ) -> tuple[list[Tensor], list[Keys]]:
        reading = Reading([len(text) for text in texts], trunk=trunk, keep=keep)
        ids = [token for text in texts for token in text]
        states = forward(self.model, ids, reading.positions(self.model.device), reading)
        return [states[start:stop] for start, stop in reading.spans], reading.kept

    def _trunk(self, ids: Sequence[int]) -> Keys:
        return self._read([ids], None, keep=True)[1][0]

    def _grow(
        self, rows: list[Row], read: tuple[Tensor, list[Keys]], decoding: Decoding, trunk: Keys | None
    ) -> None:
        """Lengthens all answers until each is whole; prompts leave when half of those in the batch are done."""
        last, keys = read
        room = max(len(row.chance) for row in rows)
        growing = Growing(trunk, keys, draws=decoding.draws, room=room)
        held = list(range(len(rows)))
        active = [i for i in held if not rows[i].state.ended]
        hidden = last[[rows[i].question for i in active]]
        while active:
            ready = [k for k, i in enumerate(active) if not rows[i].unread]
            asked = [rows[active[k]] for k in ready]
            tokens, logprobs = self.head.choose(
                hidden[torch.tensor(ready, device=hidden.device)],
                [row.state for row in asked],
                [row.chance[row.spent] for row in asked],
                decoding,
            )
            for row, token, logprob in zip(asked, tokens, logprobs, strict=True):
                row.take(token, logprob)
            active = [i for i in active if not rows[i].state.ended]
            if not active:
                return
            held = _leave(growing, held, active, decoding.draws)
            together = len(active) <= RIDING_ROWS or all(len(rows[i].unread) > 1 for i in active)
            feeds = [rows[i].read(None if together else 1) for i in active]
            at = {row: place for place, row in enumerate(held)}
            counts = [len(feed) for feed in feeds]
            positions = growing.begin([at[i] for i in active], counts)
            states = forward(self.model, [token for feed in feeds for token in feed], positions, growing)
            hidden = states[torch.tensor(counts, device=states.device).cumsum(0) - 1]

    def _check_lengths(self, questions: Sequence[Question]) -> None:
        for i, question in enumerate(questions):
            if not question.ids:
                raise ConfigError(
                    f"Prompt {i} is empty, but a language model needs at least one token. Give it words."
                )
        if questions:
            self._check_context([len(q.ids) for q in questions], max(q.automaton.longest for q in questions))

    def _check_context(self, lengths: Sequence[int], room: int) -> None:
        context = getattr(self.model.config.get_text_config(), "max_position_embeddings", None)
        for i, length in enumerate(lengths):
            if context is not None and length + room > context:
                raise ConfigError(
                    f"Prompt {i} has {length} tokens and its answer up to {room}, but the model's context "
                    f"holds {context}. Shorten the history or lower the budget."
                )

    @torch.inference_mode()
    def _check(self) -> None:
        """Reads a few tokens in two packed parts, and compares the logits with the model's own."""
        vocabulary = self.model.get_input_embeddings().weight.shape[0]
        ids = [(7 + 13 * i) % vocabulary for i in range(12)]
        own = self.model(input_ids=torch.tensor([ids], device=self.model.device)).logits[0, -1].float()
        try:
            with packed(self.model):
                trunk = self._trunk(ids[:5])
                states, _ = self._read([ids[5:]], trunk, keep=False)
            ours = self.head.full(states[0][-1:])[0]
        except (LookupError, IndexError, AttributeError, TypeError, RuntimeError) as error:
            raise ConfigError(
                f"{type(self.model).__name__} cannot answer here: its layers do not let their attention be replaced "
                f"({type(error).__name__}: {error}). Choose a llama, qwen, gemma, gpt2 or alike, or serve it and ask "
                f"it as openai:<base_url>#<model>."
            ) from error
        off, scale = float((own - ours).abs().max()), float(own.abs().max())
        if off > 0.05 * max(scale, 1.0):
            raise ConfigError(
                f"{type(self.model).__name__} cannot answer here: read in parts, its logits are off by {off:.3g} of "
                f"{scale:.3g}. Serve it and ask it as openai:<base_url>#<model>."
            )


def _leave(growing: Growing, held: list[int], active: Sequence[int], draws: int) -> list[int]:
    """Lets prompts whose draws are all whole go, once they are half of the batch; the rows that stay, in order."""
    prompts = [row // draws for row in held[::draws]]
    alive = {row // draws for row in active}
    if 2 * len(alive) > len(prompts):
        return held
    stay = [place for place, prompt in enumerate(prompts) if prompt in alive]
    growing.keep(torch.tensor(stay, device=growing.device))
    return [row for place in stay for row in held[place * draws : (place + 1) * draws]]
