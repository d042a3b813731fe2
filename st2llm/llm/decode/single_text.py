"""Decoding and scoring one text at a time, through transformers' own forward pass; slower than the packed engine."""

import copy
import time
from collections.abc import Iterator, Sequence

import numpy as np
import torch
from jaxtyping import Float, Float64
from torch import Tensor
from transformers import Cache, PreTrainedModel

from st2llm.errors import ConfigError
from st2llm.llm.architecture.base_model import base_of
from st2llm.llm.architecture.text_lengths import TextLengths
from st2llm.llm.decode.limits import check_lengths, check_requests
from st2llm.llm.decode.lm_head import LMHead
from st2llm.llm.decode.requests import (
    DecodedAnswer,
    DecodeRequest,
    PartialAnswer,
    finished_answer,
    grammar_path,
    sampling_uniforms,
)
from st2llm.llm.decode.self_check import check_logits, own_logits
from st2llm.llm.decode.token_tree import check_candidates
from st2llm.types import Decoding

_CHECK_TOKENS, _CHECK_PREFIX = 12, 5


class SingleTextEngine:
    """Answers requests and scores texts one after the other, for models whose attention cannot be replaced.

    Its methods are those of `Engine`. Keys and values of a prompt are kept for its draws where the model returns a
    cache that continues a text exactly; otherwise each token reads the whole text. Raises ConfigError for a model
    whose logits are not those of its output head.
    """

    def __init__(self, model: PreTrainedModel) -> None:
        self.model = model
        self.head = LMHead(model)
        self._base = base_of(model)
        self._lengths = TextLengths(self._base)
        ids = [(7 + 13 * i) % model.get_input_embeddings().weight.shape[0] for i in range(_CHECK_TOKENS)]
        expected = own_logits(model, ids)
        with torch.inference_mode():
            check_logits(model, expected, self.head.full_logits(self._read(ids)))
        self._keeps_cache = self._can_continue(ids, expected)

    @torch.inference_mode()
    def generate(self, requests: Sequence[DecodeRequest], decoding: Decoding) -> list[DecodedAnswer]:
        """See `Engine.generate`."""
        check_requests(self.model, requests)
        answers: list[DecodedAnswer] = []
        for request in requests:
            longest = len(request.prompt_ids) + request.automaton.max_tokens
            with self._lengths.reading(self._lengths.class_of(longest)):
                answers += self._draws(request, decoding)
        return answers

    @torch.inference_mode()
    def candidate_logprobs(
        self, prefix: Sequence[int], candidates: Sequence[Sequence[int]]
    ) -> Float64[np.ndarray, " _"]:
        """See `Engine.candidate_logprobs`."""
        if not prefix:
            raise ConfigError("Candidates are scored after a prompt, but the prompt is empty. Give a text.")
        check_candidates(candidates)
        check_lengths(self.model, [len(prefix)], max(map(len, candidates)))
        total = np.zeros(len(candidates))
        for i, candidate in enumerate(candidates):
            text = [*prefix, *candidate]
            states = self._whole(text, len(text))[len(prefix) - 1 : -1]
            rows = torch.arange(len(candidate), device=states.device)
            tokens = torch.tensor(list(candidate), device=states.device)
            total[i] = float(self.head.token_logprobs(states, rows, tokens).double().sum())
        return total

    def hidden_states(self, texts: Sequence[Sequence[int]]) -> list[Float[Tensor, "token d_lm"]]:
        """See `Engine.hidden_states`."""
        check_lengths(self.model, [len(text) for text in texts], 0)
        return [self._whole(text, len(text)) for text in texts]

    def log_likelihood(
        self, requests: Sequence[DecodeRequest], answers: Sequence[Sequence[int]]
    ) -> list[float]:
        """See `Engine.log_likelihood`."""
        check_requests(self.model, requests)
        logprobs = []
        for request, answer in zip(requests, answers, strict=True):
            path = grammar_path(request.automaton, answer)
            if path is None:
                logprobs.append(float("nan"))
                continue
            start, longest = (
                len(request.prompt_ids) - 1,
                len(request.prompt_ids) + request.automaton.max_tokens,
            )
            states = self._whole([*request.prompt_ids, *answer], longest)
            with torch.inference_mode():
                logprobs.append(self.head.path_logprob(states[start:], path))
        return logprobs

    def _draws(self, request: DecodeRequest, decoding: Decoding) -> Iterator[DecodedAnswer]:
        started = time.perf_counter()
        states, prompt_cache = self._read_on(request.prompt_ids, None)
        for draw in range(decoding.draws):
            answer = PartialAnswer(0, request.automaton.start, sampling_uniforms(request, decoding, draw))
            self._extend(request, answer, (states[-1], copy.deepcopy(prompt_cache)), decoding)
            shared = len(request.prompt_ids) if draw and self._keeps_cache else 0
            yield finished_answer(answer, tokens_shared=shared, seconds=time.perf_counter() - started)
            started = time.perf_counter()

    def _extend(
        self,
        request: DecodeRequest,
        answer: PartialAnswer,
        prompt: tuple[Float[Tensor, " d_lm"], Cache | None],
        decoding: Decoding,
    ) -> None:
        """Extends an answer until it ends. prompt: the state of the prompt's last token, and the prompt's cache."""
        last, cache = prompt
        answer.append_forced()
        while not answer.state.ended:
            if pending := answer.pop_pending(None):
                text = [*request.prompt_ids, *answer.tokens]
                states, cache = self._read_on(pending if cache is not None else text, cache)
                last = states[-1]
            uniform = answer.uniforms[answer.tokens_spent]
            (token,), (logprob,) = self.head.choose(last[None], [answer.state], [uniform], decoding)
            answer.append(token, logprob)

    @torch.inference_mode()
    def _whole(self, ids: Sequence[int], longest: int) -> Float[Tensor, "token d_lm"]:
        """The hidden states of a text that may grow to `longest` tokens."""
        with self._lengths.reading(self._lengths.class_of(longest)):
            return self._read(ids)

    def _read(self, ids: Sequence[int]) -> Float[Tensor, "token d_lm"]:
        """The hidden states of a whole text."""
        states: Tensor = self._base(input_ids=self._tensor(ids), use_cache=False).last_hidden_state[0]
        return states

    def _read_on(
        self, ids: Sequence[int], cache: Cache | None
    ) -> tuple[Float[Tensor, "token d_lm"], Cache | None]:
        """The hidden states of the tokens after those of the cache, and the cache that holds both."""
        if not self._keeps_cache:
            return self._read(ids), None
        named = {} if cache is None else {"past_key_values": cache}
        output = self._base(input_ids=self._tensor(ids), use_cache=True, **named)
        return output.last_hidden_state[0], output.past_key_values

    def _tensor(self, ids: Sequence[int]) -> Tensor:
        return torch.tensor([list(ids)], device=self.model.device)

    @torch.inference_mode()
    def _can_continue(self, ids: Sequence[int], expected: Tensor) -> bool:
        """Whether a text read in two parts, with the cache of the first, has the same logits."""
        self._keeps_cache = True
        try:
            first, cache = self._read_on(ids[:_CHECK_PREFIX], None)
            second, _ = self._read_on(ids[_CHECK_PREFIX:], cache)
            check_logits(self.model, expected, self.head.full_logits(torch.cat([first, second])))
        except (ConfigError, LookupError, AttributeError, TypeError, ValueError, RuntimeError):
            return False
        return cache is not None
