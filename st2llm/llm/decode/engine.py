"""Batched decoding and scoring with one frozen causal language model."""

import time
from collections.abc import Sequence

import numpy as np
import torch
from jaxtyping import Float, Float64
from torch import Tensor
from transformers import PreTrainedModel

from st2llm.errors import ConfigError
from st2llm.llm.decode.attention import KeyValues, PrefillPass, forward_packed, packed_attention
from st2llm.llm.decode.batching import (
    MAX_PASS_TOKENS,
    bytes_per_token,
    group_texts,
    plan_batches,
    shared_prefix_length,
)
from st2llm.llm.decode.decode_pass import DecodePass
from st2llm.llm.decode.lm_head import LMHead
from st2llm.llm.decode.packed_layers import PackedLayers
from st2llm.llm.decode.requests import (
    DecodedAnswer,
    DecodeRequest,
    PartialAnswer,
    finished_answer,
    grammar_path,
    sampling_uniforms,
)
from st2llm.llm.decode.token_tree import CandidateTree
from st2llm.llm.grammar.automaton import AutomatonState
from st2llm.types import Decoding

ENGINE_VERSION = "2"
"""Raised whenever the same request may get another answer from the same weights."""
MAX_UNEVEN_ROWS = 64
"""The most rows with which forced tokens are read with the token before them although only some rows have any.

With more rows a larger step is not cheaper per token, and attention would be computed for rows without forced
tokens.
"""


class Engine:
    """Answers requests in batches, and scores texts, with one frozen causal language model.

    memory_mb: size of keys and values held at once. A prefix that prompts share is read once; the draws of a
    prompt share its keys and values; forced tokens are read together with the token before them; the head is
    evaluated on allowed tokens only; finished answers leave the batch. Raises ConfigError for a model whose
    attention cannot be replaced, or whose logits differ when it is.
    """

    def __init__(self, model: PreTrainedModel, *, native_bf16: bool, memory_mb: int = 2048) -> None:
        self.model = model
        self.head = LMHead(model)
        self._packed_layers = PackedLayers(model.base_model, native_bf16=native_bf16)
        self._token_budget = memory_mb * 2**20 // bytes_per_token(model)
        self._check_logits()

    @torch.inference_mode()
    def generate(self, requests: Sequence[DecodeRequest], decoding: Decoding) -> list[DecodedAnswer]:
        """The draws of the first request, then those of the second: `len(requests) * decoding.draws` answers.

        Raises ConfigError for a request that is empty or, with its answer, longer than the model's context.
        """
        self._check_lengths(requests)
        answers: dict[int, list[DecodedAnswer]] = {}
        with packed_attention(self.model), self._packed_layers.installed():
            prefix_length = shared_prefix_length([question.prompt_ids for question in requests])
            prefix = self._read_prefix(requests[0].prompt_ids[:prefix_length]) if prefix_length else None
            for batch in plan_batches(requests, decoding.draws, prefix_length, self._token_budget):
                draws = self._decode_batch([requests[i] for i in batch], decoding, prefix)
                answers.update(zip(batch, draws, strict=True))
        return [draw for i in range(len(requests)) for draw in answers[i]]

    @torch.inference_mode()
    def candidate_logprobs(
        self, prefix: Sequence[int], candidates: Sequence[Sequence[int]]
    ) -> Float64[np.ndarray, " _"]:
        """Log-probability in nats of each candidate's tokens after the prefix, over the whole vocabulary.

        The prefix and every prefix that candidates share are read once. Raises ConfigError for an empty prefix
        or candidate, or where they exceed the model's context.
        """
        if not prefix:
            raise ConfigError("Candidates are scored after a prompt, but the prompt is empty. Give a text.")
        tree = CandidateTree(candidates)
        self._check_context([len(prefix)], tree.max_length)
        with packed_attention(self.model), self._packed_layers.installed():
            reading = PrefillPass([len(prefix)], keep=True)
            hidden = forward_packed(self.model, prefix, reading.positions(self.model.device), reading)
            first_logprobs = self.head.full_logits(hidden[-1:]).log_softmax(-1)[0]
            total = (
                first_logprobs[torch.tensor(tree.first_tokens, device=first_logprobs.device)]
                .double()
                .cpu()
                .numpy()
            )
            for part in tree.passes(MAX_PASS_TOKENS):
                tree_pass = PrefillPass(
                    [len(part.ids)], prefix=reading.key_values[0], visibility=[part.ancestor_mask]
                )
                states = forward_packed(
                    self.model, part.ids, tree_pass.positions(self.model.device), tree_pass
                )
                parents = torch.tensor([parent for parent, _ in part.edges], device=states.device)
                tokens = torch.tensor([token for _, token in part.edges], device=states.device)
                logprobs = self.head.token_logprobs(states, parents, tokens).double().cpu().numpy()
                np.add.at(total, part.candidate, logprobs)
        return total

    @torch.inference_mode()
    def hidden_states(self, texts: Sequence[Sequence[int]]) -> list[Float[Tensor, "token d_lm"]]:
        """Hidden states after the final norm of each text, [token, d_lm]; texts do not attend to each other."""
        self._check_context([len(text) for text in texts], 0)
        with packed_attention(self.model), self._packed_layers.installed():
            return [
                states
                for chunk in group_texts(texts)
                for states in self._read_texts(chunk, None, keep=False)[0]
            ]

    def log_likelihood(
        self, requests: Sequence[DecodeRequest], answers: Sequence[Sequence[int]]
    ) -> list[float]:
        """Log-probability in nats of each answer under its grammar, its end included; nan where it is not allowed.

        Each token is normalised over the tokens that the grammar allows there, so that all possible answers sum
        to one.
        """
        self._check_lengths(requests)
        paths = [
            grammar_path(question.automaton, answer)
            for question, answer in zip(requests, answers, strict=True)
        ]
        texts = [[*question.prompt_ids, *answer] for question, answer in zip(requests, answers, strict=True)]
        logprobs = []
        for question, steps, states in zip(requests, paths, self.hidden_states(texts), strict=True):
            logprobs.append(float("nan") if steps is None else self._path_logprob(question, steps, states))
        return logprobs

    def _path_logprob(
        self, request: DecodeRequest, steps: list[tuple[AutomatonState, tuple[int, ...]]], states: Tensor
    ) -> float:
        start = len(request.prompt_ids) - 1
        choices = [
            (i, step) for i, step in enumerate(steps) if step[0].allowed is None or len(step[0].allowed) > 1
        ]
        if not choices:
            return 0.0
        rows = states[torch.tensor([start + i for i, _ in choices], device=states.device)]
        logprobs, columns = self.head.allowed_logprobs(rows, [step[0] for _, step in choices])
        total = 0.0
        for row, (_, (_, tokens)) in zip(logprobs, choices, strict=True):
            index = (
                torch.from_numpy(np.searchsorted(columns, np.array(tokens)))
                if columns is not None
                else torch.tensor(tokens)
            )
            total += float(row[index].logsumexp(0))
        return total

    def _decode_batch(
        self, requests: Sequence[DecodeRequest], decoding: Decoding, prefix: KeyValues | None
    ) -> list[list[DecodedAnswer]]:
        started = time.perf_counter()
        prefix_length = 0 if prefix is None else len(prefix)
        answers = [
            PartialAnswer(b, question.automaton.start, sampling_uniforms(question, decoding, draw))
            for b, question in enumerate(requests)
            for draw in range(decoding.draws)
        ]
        for row in answers:
            row.append_forced()
        texts = [
            [*question.prompt_ids[prefix_length:], *answers[b * decoding.draws].tokens]
            for b, question in enumerate(requests)
        ]
        for row in answers:
            row.pop_pending(None)
        if any(not row.state.ended for row in answers):
            self._extend(answers, self._prefill(texts, prefix), decoding, prefix)
        seconds = (time.perf_counter() - started) / len(answers)
        finished = [
            finished_answer(
                row,
                tokens_shared=prefix_length
                if i % decoding.draws == 0
                else len(requests[row.request].prompt_ids),
                seconds=seconds,
            )
            for i, row in enumerate(answers)
        ]
        return [finished[i : i + decoding.draws] for i in range(0, len(finished), decoding.draws)]

    def _prefill(
        self, texts: Sequence[Sequence[int]], prefix: KeyValues | None
    ) -> tuple[Tensor, list[KeyValues]]:
        last_states, key_values = [], []
        for chunk in group_texts(texts):
            states, keys = self._read_texts(chunk, prefix, keep=True)
            last_states += [state[-1] for state in states]
            key_values += keys
        return torch.stack(last_states), key_values

    def _read_texts(
        self, texts: Sequence[Sequence[int]], prefix: KeyValues | None, *, keep: bool
    ) -> tuple[list[Tensor], list[KeyValues]]:
        reading = PrefillPass([len(text) for text in texts], prefix=prefix, keep=keep)
        ids = [token for text in texts for token in text]
        states = forward_packed(self.model, ids, reading.positions(self.model.device), reading)
        return [states[start:stop] for start, stop in reading.spans], reading.key_values

    def _read_prefix(self, ids: Sequence[int]) -> KeyValues:
        return self._read_texts([ids], None, keep=True)[1][0]

    def _extend(
        self,
        answers: list[PartialAnswer],
        prefilled: tuple[Tensor, list[KeyValues]],
        decoding: Decoding,
        prefix: KeyValues | None,
    ) -> None:
        """Extends all answers until each is finished; finished prompts leave once they are half of the batch."""
        last_states, keys = prefilled
        max_new_tokens = max(len(row.uniforms) for row in answers)
        decode_pass = DecodePass(prefix, keys, draws=decoding.draws, max_new_tokens=max_new_tokens)
        held = list(range(len(answers)))
        active = [i for i in held if not answers[i].state.ended]
        hidden = last_states[[answers[i].request for i in active]]
        while active:
            ready = [k for k, i in enumerate(active) if not answers[i].pending]
            chosen = [answers[active[k]] for k in ready]
            tokens, logprobs = self.head.choose(
                hidden[torch.tensor(ready, device=hidden.device)],
                [row.state for row in chosen],
                [row.uniforms[row.tokens_spent] for row in chosen],
                decoding,
            )
            for row, token, logprob in zip(chosen, tokens, logprobs, strict=True):
                row.append(token, logprob)
            active = [i for i in active if not answers[i].state.ended]
            if not active:
                return
            held = _drop_finished(decode_pass, held, active, decoding.draws)
            read_all = len(active) <= MAX_UNEVEN_ROWS or all(len(answers[i].pending) > 1 for i in active)
            feeds = [answers[i].pop_pending(None if read_all else 1) for i in active]
            slot_of = {row: place for place, row in enumerate(held)}
            counts = [len(feed) for feed in feeds]
            positions = decode_pass.begin([slot_of[i] for i in active], counts)
            states = forward_packed(
                self.model, [token for feed in feeds for token in feed], positions, decode_pass
            )
            hidden = states[torch.tensor(counts, device=states.device).cumsum(0) - 1]

    def _check_lengths(self, requests: Sequence[DecodeRequest]) -> None:
        for i, request in enumerate(requests):
            if not request.prompt_ids:
                raise ConfigError(
                    f"Prompt {i} is empty, but a language model needs at least one token. Give a text."
                )
        if requests:
            self._check_context(
                [len(q.prompt_ids) for q in requests], max(q.automaton.max_tokens for q in requests)
            )

    def _check_context(self, lengths: Sequence[int], max_new_tokens: int) -> None:
        context = getattr(self.model.config.get_text_config(), "max_position_embeddings", None)
        for i, length in enumerate(lengths):
            if context is not None and length + max_new_tokens > context:
                raise ConfigError(
                    f"Prompt {i} has {length} tokens and its answer up to {max_new_tokens}, but the model's context "
                    f"holds {context}. Shorten the history or lower the budget."
                )

    @torch.inference_mode()
    def _check_logits(self) -> None:
        """Reads a few tokens in two packed parts and compares the logits with those of the model's own forward
        pass.
        """
        vocabulary = self.model.get_input_embeddings().weight.shape[0]
        ids = [(7 + 13 * i) % vocabulary for i in range(12)]
        expected = self.model(input_ids=torch.tensor([ids], device=self.model.device)).logits[0, -1].float()
        try:
            with packed_attention(self.model):
                prefix = self._read_prefix(ids[:5])
                states, _ = self._read_texts([ids[5:]], prefix, keep=False)
            actual = self.head.full_logits(states[0][-1:])[0]
        except (LookupError, IndexError, AttributeError, TypeError, RuntimeError) as error:
            raise ConfigError(
                f"{type(self.model).__name__} cannot answer here: its layers do not let their attention be replaced "
                f"({type(error).__name__}: {error}). Choose a llama, qwen, gemma, gpt2 or alike, or serve it and ask "
                f"it as openai:<base_url>#<model>."
            ) from error
        off, scale = float((expected - actual).abs().max()), float(expected.abs().max())
        if off > 0.05 * max(scale, 1.0):
            raise ConfigError(
                f"{type(self.model).__name__} cannot answer here: read in parts, its logits are off by {off:.3g} of "
                f"{scale:.3g}. Serve it and ask it as openai:<base_url>#<model>."
            )


def _drop_finished(decode_pass: DecodePass, held: list[int], active: Sequence[int], draws: int) -> list[int]:
    """Drops prompts whose draws are all finished, once they are half of the batch; returns the remaining rows in
    order.
    """
    prompts = [row // draws for row in held[::draws]]
    unfinished = {row // draws for row in active}
    if 2 * len(unfinished) > len(prompts):
        return held
    kept = [place for place, prompt in enumerate(prompts) if prompt in unfinished]
    decode_pass.keep_prompts(torch.tensor(kept, device=decode_pass.device))
    return [row for place in kept for row in held[place * draws : (place + 1) * draws]]
