"""Answers cost the same nats whichever rows share a batch, and only answers are learned."""

import pytest
import torch
from support.bridges import ENCODER, problem

from st2llm.config.model import Adaptation, Projection
from st2llm.encode.field import edges_of
from st2llm.errors import AlignmentError
from st2llm.llm import load_llm
from st2llm.model.arm import arm_spec
from st2llm.model.prompted import AnswerLoss, PromptBatch, PromptedLM, answer_nats, pack_prompts
from st2llm.predict.preprocess.fit import fit_preprocessor
from st2llm.types import Slot, TrainingWindows

WORDS = ["12 people walked by", "at 7:00 450 people, 3 people walked by at 12:00.", "12", "walked by"]
ANSWERS = ["450", "12", "3 people", "at 7:00"]


def talk(llm):
    encode = llm.tokenizer.encode
    return PromptBatch(
        tuple((tuple(encode(words)),) for words in WORDS),
        tuple((*encode(answer), llm.tokenizer.eos) for answer in ANSWERS),
    )


def speaker(llm, length=None, how=None):
    made = PromptedLM(llm, how or Adaptation(method="lora", rank=4), length=length)
    with torch.random.fork_rng():
        torch.manual_seed(2)
        for p in made.parameters():
            if p.requires_grad:
                torch.nn.init.normal_(p, std=0.1)
    return made


def by_hand(llm, said):
    """Nats of each answer by the library's own forward pass, one prompt at a time."""
    found = []
    for prompt, answer in zip(said.prompts, said.answers, strict=True):
        ids = torch.tensor([[*prompt[0], *answer]])
        with torch.no_grad():
            logits = llm.model(input_ids=ids).logits[0].float().log_softmax(-1)
        begin = len(prompt[0]) - 1
        found.append(-sum(float(logits[begin + i, token]) for i, token in enumerate(answer)))
    return found


@pytest.mark.parametrize("architecture", ["llama", "gpt2", "gemma"])
@pytest.mark.parametrize("length", [None, 64, 200])
def test_nats_are_those_of_the_library_one_by_one(tiny, architecture, length):
    llm = load_llm(tiny(architecture), dtype="fp32")
    targets = ("c_attn",) if architecture == "gpt2" else ("q_proj", "v_proj")
    model = speaker(llm, length, Adaptation(method="lora", rank=2, target_modules=targets))
    said = talk(llm)
    assert float(model(said).detach()) == pytest.approx(sum(by_hand(llm, said)), rel=1e-4)


@pytest.mark.parametrize("length", [64, 200])
def test_packed_rows_give_the_gradient_of_single_ones(tiny, length):
    found = []
    for size in (None, length):
        model = speaker(load_llm(tiny(), depth=2, dtype="fp32"), size)
        said = talk(model.llm)
        if size is None:
            for i in range(len(said)):
                model(said.take([i])).backward()
        else:
            model(said).backward()
        found.append({n: p.grad for n, p in model.named_parameters() if p.requires_grad})
    for name, gradient in found[0].items():
        torch.testing.assert_close(gradient, found[1][name], rtol=1e-4, atol=1e-5)


def test_packing_fills_rows_and_hears_nobody_else():
    prompts = [torch.full((n, 4), float(n)) for n in (3, 9, 2, 5)]
    answers = [torch.full((2, 4), -1.0)] * 4
    packed = pack_prompts(prompts, answers, [(1, 2)] * 4, length=10)
    assert packed.embeddings.shape == (3, 10, 4)
    assert int(packed.is_target.sum()) == len(packed.target) == 8
    mask = packed.mask(torch.float32)[:, 0] == 0
    for row in range(len(mask)):
        for i in range(10):
            heard = packed.segment[row][mask[row, i]]
            assert (heard == packed.segment[row, i]).all() and mask[row, i, i]
            assert not mask[row, i, i + 1 :].any()


def test_a_row_that_is_too_long_is_refused_with_both_numbers():
    with pytest.raises(AlignmentError, match="has 13 tokens, but a row holds 10"):
        pack_prompts([torch.zeros(12, 4)], [torch.zeros(2, 4)], [(1, 2)], length=10)


def test_what_the_prompt_says_is_not_learned(tiny):
    llm = load_llm(tiny(), depth=2, dtype="fp32")
    head = llm.model.get_output_embeddings().weight
    head.requires_grad_(True)
    prompts = [llm.embed(words).detach() for words in WORDS]
    said = talk(llm)
    answer_nats(llm, prompts, said.answers).backward()
    assert AnswerLoss().counts(said) == {"language": sum(map(len, said.answers))}
    # A prompt's embedding gets a gradient through what it says of the answer; its words are never a target.
    assert said.tokens == sum(len(answer) for answer in said.answers)


@pytest.mark.slow
def test_a_speaker_learns_answers_by_heart_and_says_them(tiny):
    llm = load_llm(tiny(), depth=2, dtype="fp32")
    how = Adaptation(
        method="lora", rank=8, target_modules=("q_proj", "k_proj", "v_proj", "o_proj", "up_proj", "down_proj")
    )
    model, said = PromptedLM(llm, how, seed=1), talk(llm)
    optimiser = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=2e-2)
    for _ in range(120):
        loss = model(said) / said.tokens
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    assert float(loss.detach()) < 0.1
    assert model.generate_answers(said) == ANSWERS
    assert model.generate_answers(said.take([2])) == [ANSWERS[2]]


def test_soft_tokens_stand_amid_words_and_are_counted(tiny):
    llm = load_llm(tiny(), depth=2, dtype="fp32")
    samples, task = problem("graph")
    preprocessor = fit_preprocessor(
        TrainingWindows(samples), task, skip="none", encoder=ENCODER, up=Projection(), with_instructions=False
    )
    blueprint = arm_spec(
        preprocessor.task_shape(samples[0], task), edges_of(samples[0]), ENCODER, llm=llm, up=Projection()
    )
    model = PromptedLM(llm, spec=blueprint)
    data = preprocessor.collate(samples[:2], with_instructions=False)
    before, after = (tuple(llm.tokenizer.encode(words)) for words in ("12 people", "walked by"))
    answer = tuple(llm.tokenizer.encode("450"))

    def spoken(tokens):
        return PromptBatch(((before, Slot("data", tokens), after),) * 2, (answer,) * 2, data)

    rows = model.embed_prompts(spoken(3))
    assert [len(row) for row in rows] == [len(before) + 3 + len(after)] * 2
    torch.testing.assert_close(rows[0][: len(before)], llm.embed("12 people"))
    assert (rows[0][len(before)] - rows[1][len(before)]).abs().max() > 0
    model(spoken(3)).backward()
    assert model.encoder.embed.values.weight.grad.abs().max() > 0
    with pytest.raises(AlignmentError, match="holds 4 tokens, but the head made 3"):
        model(spoken(4))
