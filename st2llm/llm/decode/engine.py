"""Batched decoding and scoring with one frozen causal language model."""

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import numpy as np
import torch
from jaxtyping import Float, Float64
from torch import Tensor
from transformers import PreTrainedModel

from st2llm.errors import ConfigError
from st2llm.llm.architecture.base_model import base_of
from st2llm.llm.architecture.text_lengths import TextLengths
from st2llm.llm.decode.attention import KeyValues, PrefillPass, forward_packed, packed_attention
from st2llm.llm.decode.batching import (
    MAX_PASS_TOKENS,
    group_texts,
    plan_batches,
    shared_prefix_length,
)
from st2llm.llm.decode.decode_pass import DecodePass
from st2llm.llm.decode.limits import check_lengths, check_requests
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
from st2llm.llm.decode.self_check import check_packed_reading
from st2llm.llm.decode.token_tree import CandidateTree, check_candidates
from st2llm.types import Decoding

ENGINE_VERSION = "3"
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
    evaluated on allowed tokens only; finished answers leave the batch. Texts that the model reads with other rotary
    frequencies are never in one pass (`TextLengths`). Raises ConfigError for a model whose attention cannot be
    replaced, or whose logits differ when it is.
    """

    def __init__(self, model: PreTrainedModel, *, native_bf16: bool, memory_mb: int = 2048) -> None:
        self.model = model
        self.head = LMHead(model)
        self._lengths = TextLengths(base_of(model))
        self._packed_layers = PackedLayers(base_of(model), native_bf16=native_bf16)
        bytes_per_token = check_packed_reading(model, self.head, self._lengths, self._reading)
        self._token_budget = memory_mb * 2**20 // bytes_per_token

    @torch.inference_mode()
    def generate(self, requests: Sequence[DecodeRequest], decoding: Decoding) -> list[DecodedAnswer]:
        """The draws of the first request, then those of the second: `len(requests) * decoding.draws` answers.

        Raises ConfigError for a request that is empty or, with its answer, longer than the model's context.
        """
        check_requests(self.model, requests)
        answers: dict[int, list[DecodedAnswer]] = {}
        for length_class, members in self._lengths.groups([_longest(question) for question in requests]):
            group = [requests[i] for i in members]
            with self._reading(length_class):
                answers.update(zip(members, self._generate_group(group, decoding), strict=True))
        return [draw for i in range(len(requests)) for draw in answers[i]]

    def _generate_group(
        self, requests: Sequence[DecodeRequest], decoding: Decoding
    ) -> list[list[DecodedAnswer]]:
        answers: dict[int, list[DecodedAnswer]] = {}
        prefix_length = shared_prefix_length([question.prompt_ids for question in requests])
        prefix = self._read_prefix(requests[0].prompt_ids[:prefix_length]) if prefix_length else None
        for batch in plan_batches(requests, decoding.draws, prefix_length, self._token_budget):
            draws = self._decode_batch([requests[i] for i in batch], decoding, prefix)
            answers.update(zip(batch, draws, strict=True))
        return [answers[i] for i in range(len(requests))]

    @contextmanager
    def _reading(self, length_class: int) -> Iterator[None]:
        """A context for the passes over texts of this class of lengths."""
        with (
            packed_attention(self.model),
            self._packed_layers.installed(),
            self._lengths.reading(length_class),
        ):
            yield

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
        check_candidates(candidates)
        check_lengths(self.model, [len(prefix)], max(map(len, candidates)))
        total = np.zeros(len(candidates))
        for length_class, members in self._lengths.groups([len(prefix) + len(c) for c in candidates]):
            with self._reading(length_class):
                total[members] = self._tree_logprobs(prefix, CandidateTree([candidates[i] for i in members]))
        return total

    def _tree_logprobs(self, prefix: Sequence[int], tree: CandidateTree) -> Float64[np.ndarray, " _"]:
        reading = PrefillPass([len(prefix)], keep=True)
        hidden = forward_packed(self.model, prefix, reading.positions(self.model.device), reading)
        first_logprobs = self.head.full_logits(hidden[-1:]).log_softmax(-1)[0]
        first_tokens = torch.tensor(tree.first_tokens, device=first_logprobs.device)
        total: Float64[np.ndarray, " _"] = first_logprobs[first_tokens].double().cpu().numpy()
        for part in tree.passes(MAX_PASS_TOKENS):
            tree_pass = PrefillPass(
                [len(part.ids)], prefix=reading.key_values[0], visibility=[part.ancestor_mask]
            )
            states = forward_packed(self.model, part.ids, tree_pass.positions(self.model.device), tree_pass)
            parents = torch.tensor([parent for parent, _ in part.edges], device=states.device)
            tokens = torch.tensor([token for _, token in part.edges], device=states.device)
            logprobs = self.head.token_logprobs(states, parents, tokens).double().cpu().numpy()
            np.add.at(total, part.candidate, logprobs)
        return total

    def hidden_states(self, texts: Sequence[Sequence[int]]) -> list[Float[Tensor, "token d_lm"]]:
        """Hidden states after the final norm of each text, [token, d_lm]; texts do not attend to each other."""
        check_lengths(self.model, [len(text) for text in texts], 0)
        return self._states(texts, [len(text) for text in texts])

    @torch.inference_mode()
    def _states(
        self, texts: Sequence[Sequence[int]], lengths: Sequence[int]
    ) -> list[Float[Tensor, "token d_lm"]]:
        """Hidden states of texts, each read as the beginning of a text of so many tokens."""
        states: dict[int, Tensor] = {}
        for length_class, members in self._lengths.groups(lengths):
            with self._reading(length_class):
                chunks = group_texts([texts[i] for i in members])
                read = [rows for chunk in chunks for rows in self._read_texts(chunk, None, keep=False)[0]]
            states.update(zip(members, read, strict=True))
        return [states[i] for i in range(len(texts))]

    def log_likelihood(
        self, requests: Sequence[DecodeRequest], answers: Sequence[Sequence[int]]
    ) -> list[float]:
        """Log-probability in nats of each answer under its grammar, its end included; nan where it is not allowed.

        Each token is normalised over the tokens that the grammar allows there, so that all possible answers sum
        to one.
        """
        check_requests(self.model, requests)
        texts = [[*question.prompt_ids, *answer] for question, answer in zip(requests, answers, strict=True)]
        lengths = [max(_longest(question), len(text)) for question, text in zip(requests, texts, strict=True)]
        logprobs = []
        for question, answer, states in zip(requests, answers, self._states(texts, lengths), strict=True):
            path = grammar_path(question.automaton, answer)
            start = len(question.prompt_ids) - 1
            logprobs.append(float("nan") if path is None else self.head.path_logprob(states[start:], path))
        return logprobs

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


def _longest(request: DecodeRequest) -> int:
    """The length of the longest text that a request can lead to, which decides how it is read."""
    return len(request.prompt_ids) + request.automaton.max_tokens


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
