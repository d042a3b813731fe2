"""A language model stays as it was loaded: frozen, cut where asked, the same for the same seed."""

import json
import shutil

import pytest
import torch

from st2llm.errors import AlignmentError, ConfigError
from st2llm.llm import load_llm
from st2llm.llm.local import choose_dtype, truncate_layers
from st2llm.types import Completer, Numbers, Slot

ARCHITECTURES = ["llama", "gpt2", "qwen2", "gemma"]


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_it_says_what_it_is(tiny, architecture):
    llm = load_llm(tiny(architecture), depth=3, dtype="fp32")
    assert isinstance(llm, Completer)
    assert (llm.depth, llm.depth_full, llm.d_lm, llm.quant, llm.pretrained) == (3, 4, 32, "none", True)
    assert llm.dtype == torch.float32
    assert len(llm.sha256) == 64
    seen = llm.model.get_input_embeddings()(torch.arange(llm.tokenizer.vocab_size))
    shown = f"LanguageModel(name={llm.name}, layers=3 of 4, d_lm=32, dtype=float32, device=cpu, quant=none"
    assert repr(llm).startswith(shown[:60]) and "dtype=float32, device=cpu" in repr(llm)
    assert llm.token_rms == pytest.approx(float((seen**2).mean() ** 0.5), rel=1e-4)


def test_a_model_of_the_same_weights_with_another_config_is_another_one(tiny, tmp_path):
    shutil.copytree(tiny(), tmp_path / "copy")
    path = tmp_path / "copy" / "config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "rms_norm_eps": 0.5}))
    own, edited = load_llm(tiny(), dtype="fp32"), load_llm(str(tmp_path / "copy"), dtype="fp32")
    assert own.sha256 == edited.sha256
    assert own.identity != edited.identity


@pytest.mark.parametrize("name", ["pretrained", "random"])
@pytest.mark.parametrize(
    ("content", "message"),
    [
        (
            {"model_type": "their-own", "auto_map": {"AutoConfig": "code.Config"}},
            "Code in the folder .* is not run",
        ),
        ({"model_type": "their-own"}, "not the config of a model that the installed transformers knows"),
        ([1], "not the config of a model"),
        ("{", "not the config of a model"),
    ],
)
def test_a_model_with_code_of_its_own_or_a_damaged_config_is_one_message(
    tiny, tmp_path, content, message, name
):
    shutil.copytree(tiny(), tmp_path / "copy")
    text = content if isinstance(content, str) else json.dumps(content)
    (tmp_path / "copy" / "config.json").write_text(text)
    (tmp_path / "copy" / "code.py").write_text("raise SystemExit('code of a model ran')")
    with pytest.raises(ConfigError, match=message):
        load_llm(f"random:{tmp_path / 'copy'}" if name == "random" else str(tmp_path / "copy"))


def test_words_become_rows_of_the_embedding_table(tiny):
    llm = load_llm(tiny(), dtype="fp32")
    ids = llm.tokenizer.encode("12, 14")
    assert torch.equal(llm.embed("12, 14"), llm.model.get_input_embeddings().weight[ids])
    assert llm.embed("").shape == (0, 32)


def test_a_cut_model_is_the_first_layers_and_the_final_norm(tiny):
    ids = torch.tensor([[5, 6, 7, 8]])
    full = load_llm(tiny(), dtype="fp32").model.base_model
    short = load_llm(tiny(), depth=2, dtype="fp32").model.base_model
    with torch.no_grad():
        want = full.norm(full(input_ids=ids, output_hidden_states=True).hidden_states[2])
        torch.testing.assert_close(short(input_ids=ids).last_hidden_state, want)
        assert not torch.allclose(full(input_ids=ids).last_hidden_state, want, atol=1e-2)


@pytest.mark.parametrize("depth", [1, 2, 3])
@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_a_cut_model_is_the_one_that_its_config_describes(tiny, architecture, depth):
    ids = torch.arange(5, 45).reshape(2, 20)  # longer than gemma's window
    short = load_llm(tiny(architecture), depth=depth, dtype="fp32").model
    fresh = type(short)(short.config)
    fresh.load_state_dict(short.state_dict())
    with torch.no_grad():
        torch.testing.assert_close(short(input_ids=ids).logits, fresh.eval()(input_ids=ids).logits)


@pytest.mark.parametrize("depth", [1, 3])
@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_a_cut_model_goes_on_from_its_cache_as_if_it_read_all_at_once(tiny, architecture, depth):
    ids = torch.arange(5, 35)[None]
    model = load_llm(tiny(architecture), depth=depth, dtype="fp32").model
    with torch.no_grad():
        whole = model(input_ids=ids).logits
        past = model(input_ids=ids[:, :20], use_cache=True).past_key_values
        rest = model(input_ids=ids[:, 20:], past_key_values=past).logits
    assert len(past.layers) == depth
    torch.testing.assert_close(rest, whole[:, 20:], atol=1e-4, rtol=1e-4)


def test_a_layer_of_gemma_that_sees_its_window_alone_stays_one_after_the_cut(tiny):
    short = load_llm(tiny("gemma"), depth=1, dtype="fp32").model
    assert short.config.layer_types == ["sliding_attention"]
    ids = torch.arange(5, 25)[None]
    other = ids.clone()
    other[0, :12] += 100  # the last token sees tokens 12 to 19
    with torch.no_grad():
        last, changed = (short(input_ids=tokens).logits[0, -1] for tokens in (ids, other))
    torch.testing.assert_close(last, changed)


def test_what_a_config_lists_layer_by_layer_is_cut_and_what_merely_has_that_length_is_not(tiny):
    model = load_llm(tiny("gemma"), dtype="fp32").model
    model.config.eos_token_id = [2, 3, 4, 5]
    model.config.no_rope_layers = [1, 1, 1, 0]
    model.config.num_kv_shared_layers = 2
    truncate_layers(model, 3)
    assert model.config.eos_token_id == [2, 3, 4, 5]
    assert model.config.no_rope_layers == [1, 1, 1]
    assert model.config.num_kv_shared_layers == 1


@pytest.mark.parametrize("depth", [0, 5, -1])
def test_a_depth_that_the_model_does_not_have_is_refused(tiny, depth):
    with pytest.raises(ConfigError, match="depth must be 1 to 4"):
        load_llm(tiny(), depth=depth)


def test_an_unknown_dtype_is_refused(tiny):
    with pytest.raises(ConfigError, match="dtype must be one of auto, fp32, bf16"):
        load_llm(tiny(), dtype="fp16")


def test_accelerators_get_bf16_when_left_to_choose():
    assert choose_dtype("auto", torch.device("cuda")) == torch.bfloat16


def test_random_weights_are_those_of_the_seed(tiny):
    name = f"random:{tiny()}"
    state = torch.get_rng_state()
    first = load_llm(name, seed=3, dtype="fp32")
    assert torch.equal(torch.get_rng_state(), state)
    assert first.fingerprint() == load_llm(name, seed=3, dtype="fp32").fingerprint() == first.sha256
    assert first.fingerprint() != load_llm(name, seed=4, dtype="fp32").fingerprint()
    assert first.fingerprint() != load_llm(tiny(), dtype="fp32").fingerprint()
    assert (first.pretrained, first.name) == (False, name)
    assert first.tokenizer.encode("12, 3") == load_llm(tiny(), dtype="fp32").tokenizer.encode("12, 3")


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_it_is_frozen_and_answering_changes_no_weight(tiny, prompt, architecture):
    llm = load_llm(tiny(architecture), dtype="fp32")
    before = llm.fingerprint()
    llm.complete([prompt("12,", Numbers(3, 2)), prompt("12 people")])
    assert llm.fingerprint() == before
    assert not llm.model.training
    assert not any(weight.requires_grad for weight in llm.model.parameters())


def test_the_fingerprint_sees_a_single_changed_weight(tiny):
    llm = load_llm(tiny(), dtype="fp32")
    before = llm.fingerprint()
    with torch.no_grad():
        next(reversed(list(llm.model.parameters()))).view(-1)[0] += 1e-3
    assert llm.fingerprint() != before


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_gradients_pass_through_it_after_it_has_answered(tiny, prompt, architecture):
    llm = load_llm(tiny(architecture), dtype="fp32")
    llm.complete([prompt("12,", Numbers(3, 2))])
    rows = llm.embed("12, 14").clone().requires_grad_()
    llm.model.base_model(inputs_embeds=rows[None]).last_hidden_state[0, -1, 0].backward()
    assert float(rows.grad.abs().sum()) > 0
    assert all(weight.grad is None for weight in llm.model.parameters())


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_bf16_agrees_with_fp32_within_its_rounding(tiny, architecture):
    ids = torch.tensor([[5, 6, 7, 8, 9]])
    with torch.no_grad():
        exact = load_llm(tiny(architecture), dtype="fp32").model(input_ids=ids).logits
        rough = load_llm(tiny(architecture), dtype="bf16").model(input_ids=ids).logits
    assert rough.dtype == torch.bfloat16
    assert float((rough - exact).norm() / exact.norm()) < 0.05


def test_a_prompt_with_slots_is_not_answered_in_words(tiny, prompt):
    with pytest.raises(AlignmentError, match="slot 'places'"):
        load_llm(tiny(), dtype="fp32").complete([prompt("12,", slots=(Slot("places", 2),))])


@pytest.fixture(scope="module")
def smollm2():
    return load_llm("smollm2-135m", dtype="fp32")


PARAGRAPH = (
    "The Great Barrier Reef is the largest coral reef system in the world. It stretches for over 2,300 kilometres "
    "along the coast of Queensland, Australia, and can be seen from space. The reef is home to thousands of species of "
    "fish, molluscs and other animals, and it attracts more than two million visitors each year. In recent decades, "
    "rising sea temperatures have caused several mass bleaching events, which threaten the health of the corals."
)


@pytest.mark.slow
def test_smollm2_reads_english_with_a_perplexity_below_thirty(smollm2):
    ids = torch.tensor([smollm2.tokenizer.encode(PARAGRAPH)])
    with torch.no_grad():
        loss = smollm2.model(input_ids=ids, labels=ids).loss
    assert float(loss.exp()) < 30
    assert (smollm2.depth, smollm2.d_lm, smollm2.pretrained) == (30, 576, True)


@pytest.mark.slow
def test_smollm2_knows_the_capital_of_france(smollm2, prompt):
    question = ({"role": "user", "content": "What is the capital of France?"},)
    answers = smollm2.complete([prompt("The capital of France is"), prompt("", messages=question)])
    assert all("Paris" in answer.text for answer in answers)


@pytest.mark.slow
def test_smollm2_goes_on_with_a_series(smollm2, prompt):
    asked = [
        prompt("12,14,16,18,20,", Numbers(4, 3)),
        prompt("100,200,300,100,200,300,100,200,300,", Numbers(3, 3)),
    ]
    assert [answer.text for answer in smollm2.complete(asked)] == ["22,24,26,28", "100,200,300"]


@pytest.mark.slow
def test_smollm2_with_random_weights_has_its_tokenizer_and_depth_but_not_its_words(smollm2):
    drawn = load_llm("random:smollm2-135m", depth=2, dtype="fp32")
    assert (drawn.depth, drawn.depth_full, drawn.d_lm, drawn.pretrained) == (2, 30, 576, False)
    assert drawn.tokenizer.encode("12") == smollm2.tokenizer.encode("12")
    assert drawn.token_rms == pytest.approx(drawn.model.config.initializer_range, rel=0.05)


def test_plain_strings_are_answered_as_prompts_of_that_text_are(tiny, prompt):
    llm = load_llm(tiny(), dtype="fp32")
    asked = [prompt("12, 14"), prompt("7,")]
    wanted = [answer.text for answer in llm.complete(asked)]
    assert [answer.text for answer in llm.complete(["12, 14", "7,"])] == wanted
    assert [answer.text for answer in llm.complete("7,")] == wanted[1:]
    assert llm.score("7,", [" 1", " 2"]).tolist() == llm.score(asked[1], [" 1", " 2"]).tolist()
    assert llm.log_likelihood("7,", ["8"]).tolist() == llm.log_likelihood([asked[1]], ["8"]).tolist()
