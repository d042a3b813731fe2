"""How fast the text engine answers, beside transformers' `generate` on the same model, in one run.

python benchmarks/engine.py [--json] [--repeats N] [--llm NAME] [--parts speed,context,scoring,readable]

Two things compared take turns; each ratio is that of the medians. Set no ST2LLM_ANSWERS: kept answers are not used.
Raw seconds are printed beside the ratios, since other work on the machine shows in them first.
"""

import argparse
import json
import platform
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import LlamaConfig, LlamaForCausalLM

import st2llm
from st2llm.devices import best_device, synchronise
from st2llm.llm import load_llm
from st2llm.llm.decode.attention import packed_attention
from st2llm.llm.decode.requests import DecodeRequest
from st2llm.llm.grammar import build_automaton
from st2llm.llm.local import LanguageModel, choose_dtype
from st2llm.types import Decoding, Numbers, Prompt, TemplateId

DRAWS = Decoding(draws=5, temperature=0.7, seed=0)
ANSWER = Numbers(24, 3, fixed=True)
VALUES = 72


def series(count: int, length: int) -> tuple[list[str], np.ndarray]:
    """Real hourly counts as three-digit numbers, and the 24 that follow each: places and times in turn."""
    data = st2llm.load_data("auckland-pedestrians")
    values = data.values[:, :, 0]
    words, truths = [], []
    start = len(values) * 4 // 5
    while len(words) < count:
        place = len(words) % values.shape[1]
        window = values[start : start + length + 24, place]
        start += 37
        if np.isfinite(window).all() and window.max() > 0:
            scaled = np.round(window * min(1.0, 999 / window.max())).astype(int)
            words.append(",".join(f"{value:03d}" for value in scaled[:length]) + ",")
            truths.append(scaled[length:])
    return words, np.array(truths)


def questions(llm: LanguageModel, words: Sequence[str]) -> list[DecodeRequest]:
    form = build_automaton(llm.tokenizer, ANSWER)
    return [DecodeRequest(tuple(llm.tokenizer.encode(text)), form, text) for text in words]


def engine_run(llm: LanguageModel, words: Sequence[str]) -> tuple[float, np.ndarray, int]:
    """Seconds, the forecasts (medians of draws), and tokens written."""
    began = time.perf_counter()
    draws = llm.engine.generate(questions(llm, words), DRAWS)
    seconds = time.perf_counter() - began
    texts = [llm.tokenizer.decode(draw.tokens) for draw in draws]
    numbers = np.array([[int(part) for part in text.split(",")] for text in texts], dtype=np.float64)
    return (
        seconds,
        np.median(numbers.reshape(len(words), DRAWS.draws, -1), axis=1),
        sum(d.tokens_spent for d in draws),
    )


@torch.inference_mode()
def prefill_run(llm: LanguageModel, words: Sequence[str]) -> tuple[float, int]:
    texts = [llm.tokenizer.encode(text) for text in words]
    began = time.perf_counter()
    with packed_attention(llm.model), llm.engine._packed_layers.installed():
        llm.engine._prefill(texts, None)
    synchronise(llm.device)
    return time.perf_counter() - began, sum(map(len, texts))


@torch.inference_mode()
def generate_run(llm: LanguageModel, words: Sequence[str], tokens: int) -> tuple[float, list[str]]:
    """Seconds and texts of transformers' own sampling, all prompts in one batch, each with the same draws."""
    ids = torch.tensor([llm.tokenizer.encode(text) for text in words], device=llm.device)
    began = time.perf_counter()
    out = llm.model.generate(
        ids,
        attention_mask=torch.ones_like(ids),
        do_sample=True,
        temperature=DRAWS.temperature,
        top_k=0,
        num_return_sequences=DRAWS.draws,
        min_new_tokens=tokens,
        max_new_tokens=tokens,
        pad_token_id=llm.tokenizer.pad,
    )
    seconds = time.perf_counter() - began
    return seconds, [llm.tokenizer.decode(row) for row in out[:, ids.shape[1] :].tolist()]


def loose(text: str) -> np.ndarray | None:
    """Numbers of an unconstrained answer; None where there are not 24 of them."""
    parts = [part for part in text.replace(",", " ").split() if part.isdigit()][:24]
    return np.array([float(part[:3]) for part in parts]) if len(parts) == 24 else None


def speed(name: str, repeats: int, say: Callable[[str], None]) -> dict[str, object]:
    """Forecasts per second against `generate` prompt by prompt, and decode against prefill."""
    fast = {kind: load_llm(name, dtype=kind) for kind in ("fp32", "bf16")}
    best = "bf16" if choose_dtype("auto", best_device()) == torch.bfloat16 else "fp32"
    words, truths = series(24 + repeats, VALUES)
    engine_s: dict[str, list[float]] = {"fp32": [], "bf16": []}
    generate_s: dict[str, list[float]] = {"fp32": [], "bf16": []}
    ratios: dict[int, list[float]] = {30: [], 60: [], 120: []}
    errors: dict[str, list[float]] = {"engine": [], "generate": []}
    for llm in fast.values():
        engine_run(llm, words[:2])
    for turn in range(repeats):
        for kind, llm in fast.items():
            seconds, texts = generate_run(llm, [words[24 + turn]], 96)
            generate_s[kind].append(seconds)
            say(f"generate {kind}: {seconds:.2f} s a forecast")
            if kind == best:
                read = [numbers for text in texts if (numbers := loose(text)) is not None]
                middle = np.median(read, axis=0) if read else np.full(24, np.nan)
                errors["generate"].append(float(np.abs(middle - truths[24 + turn]).mean()))
            seconds, _, _ = engine_run(llm, words[:24])
            engine_s[kind].append(seconds / 24)
            say(f"engine {kind}, 120 rows: {seconds / 24:.3f} s a forecast")
        for rows in ratios:
            prefill, read_tokens = prefill_run(fast[best], words[: rows // 5])
            seconds, _, written = engine_run(fast[best], words[: rows // 5])
            ratios[rows].append((written / (seconds - prefill)) / (read_tokens / prefill))
            speed_in = read_tokens / prefill
            say(
                f"{rows} rows {best}: prefill {speed_in:.0f} tok/s, decode over prefill {ratios[rows][-1]:.2f}"
            )
    _, forecasts, _ = engine_run(fast[best], words[24:])
    errors["engine"] = np.abs(forecasts - truths[24:]).mean(axis=1).tolist()
    middle = {kind: statistics.median(found) for kind, found in engine_s.items()}
    slow = {kind: statistics.median(found) for kind, found in generate_s.items()}
    return {
        "speedup_fp32": slow["fp32"] / middle[best],
        "speedup_bf16": slow["bf16"] / middle[best],
        "speedup_fp32_by_fp32": slow["fp32"] / middle["fp32"],
        "speedup_bf16_by_bf16": slow["bf16"] / middle["bf16"],
        "engine_dtype": best,
        "decode_over_prefill_30": statistics.median(ratios[30]),
        "decode_over_prefill_60": statistics.median(ratios[60]),
        "decode_over_prefill_120": statistics.median(ratios[120]),
        "seconds_per_forecast": {"engine": middle, "generate": slow},
        "error_difference": paired(errors["engine"], errors["generate"]),
        "errors": errors,
    }


def paired(ours: Sequence[float], theirs: Sequence[float]) -> dict[str, float]:
    """Mean difference of the errors on the same series, with a 95 % bootstrap interval."""
    off = np.array(ours) - np.array(theirs)
    off = off[np.isfinite(off)]
    means = np.random.default_rng(0).choice(off, (2000, len(off))).mean(axis=1)
    low, high = np.quantile(means, [0.025, 0.975])
    return {"value": float(off.mean()), "low": float(low), "high": float(high), "n": len(off)}


def context(name: str, repeats: int, say: Callable[[str], None]) -> dict[str, object]:
    """Contexts of 700 tokens: 6 prompts of 5 draws, against `generate` with the same 30 rows."""
    llm = load_llm(name)
    words, _ = series(6, 175)
    engine_run(llm, words[:1])
    ours, theirs = [], []
    for _ in range(repeats):
        theirs.append(generate_run(llm, words, 96)[0])
        ours.append(engine_run(llm, words)[0])
        say(f"700 tokens, 30 rows: engine {ours[-1]:.1f} s, generate {theirs[-1]:.1f} s")
    return {
        "speedup_context_700": statistics.median(theirs) / statistics.median(ours),
        "seconds_context_700": {"engine": ours, "generate": theirs},
    }


@torch.inference_mode()
def scoring(name: str, repeats: int, say: Callable[[str], None]) -> dict[str, object]:
    """512 candidates on a prefix of 512 tokens, against reading prefix and candidate anew for each, in fp32.

    The loop is timed on 16 candidates a turn, others in each, and its time for 512 is 32 times that.
    """
    llm = load_llm(name, dtype="fp32")
    words, _ = series(1, 128)
    ids = llm.tokenizer.encode(words[0])[:512]
    candidates = [llm.tokenizer.encode(f"{i:03d}, place {(7 * i) % 512}") for i in range(512)]
    llm.engine.candidate_logprobs(ids, candidates[:4])
    picked = np.random.default_rng(0).permutation(512)
    ours, theirs, loop = [], [], {}
    for turn in range(repeats):
        chosen = picked[16 * turn : 16 * turn + 16]
        began = time.perf_counter()
        for i in chosen:
            text = torch.tensor([[*ids, *candidates[i]]], device=llm.device)
            logprobs = llm.model(input_ids=text).logits[0, len(ids) - 1 : -1].float().log_softmax(-1)
            loop[int(i)] = float(logprobs[torch.arange(len(candidates[i])), candidates[i]].sum())
        theirs.append((time.perf_counter() - began) * 32)
        began = time.perf_counter()
        scores = llm.engine.candidate_logprobs(ids, candidates)
        ours.append(time.perf_counter() - began)
        say(f"512 candidates: engine {ours[-1]:.1f} s, loop {theirs[-1]:.0f} s (16 of them timed)")
    order = sorted(loop, key=lambda i: loop[i])
    return {
        "scoring_speedup": statistics.median(theirs) / statistics.median(ours),
        "scoring_rank_identical": order == sorted(loop, key=lambda i: scores[i]),
        "scoring_largest_difference": max(abs(loop[i] - scores[i]) for i in loop),
        "scoring_compared": len(loop),
        "seconds_scoring": {"engine": ours, "loop": theirs},
    }


def merged_model(folder: Path) -> str:
    """A tiny llama of random weights whose tokens hold several digits, separators or blanks."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=900, initial_alphabet=pre_tokenizers.ByteLevel.alphabet(), show_progress=False
    )
    corpus = [f"{i},{i * 7 % 1000}, {i % 97} people at {i % 24}:00\n" for i in range(4000)]
    tokenizer.train_from_iterator(corpus, trainer)
    tokenizer.save(str(folder / "tokenizer.json"))
    (folder / "tokenizer_config.json").write_text("{}")
    config = LlamaConfig(
        vocab_size=tokenizer.get_vocab_size(),
        hidden_size=64,
        intermediate_size=128,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        initializer_range=0.3,
    )
    torch.manual_seed(0)
    LlamaForCausalLM(config).save_pretrained(folder)
    return str(folder)


def readable(name: str, repeats: int, say: Callable[[str], None]) -> dict[str, object]:
    """2,000 prompts, a thousand of each of two tokenizers, sampled hot: the share of answers that read back."""
    found = []
    with tempfile.TemporaryDirectory() as folder:
        for model in (load_llm(name, depth=1), load_llm(merged_model(Path(folder)))):
            rng = np.random.default_rng(0)
            prompts, forms = [], []
            for i in range(1000):
                form = Numbers(
                    int(rng.integers(1, 13)), int(rng.integers(1, 5)), [",", ", ", " | "][i % 3], bool(i % 2)
                )
                text = ",".join(map(str, rng.integers(0, 999, rng.integers(3, 30))))
                prompts.append(Prompt((), (text + ",",), "", TemplateId("benchmark", 1, ""), form))
                forms.append(form)
            answers = model.complete(prompts, Decoding(temperature=1.5))
            found += [whole(a.text, form) for a, form in zip(answers, forms, strict=True)]
            say(f"{sum(found)} of {len(found)} answers readable")
    return {"readable": float(np.mean(found)), "readable_prompts": len(found)}


def whole(text: str, form: Numbers) -> bool:
    parts = text.split(form.separator)
    widths = [form.digits] if form.fixed else range(1, form.digits + 1)
    return len(parts) == form.count and all(part.isdigit() and len(part) in widths for part in parts)


PARTS = {"speed": speed, "context": context, "scoring": scoring, "readable": readable}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--json", action="store_true", help="print one JSON object and nothing else on stdout"
    )
    parser.add_argument("--repeats", type=int, default=3, help="turns of each comparison")
    parser.add_argument("--llm", default="smollm2-135m")
    parser.add_argument("--parts", default=",".join(PARTS), help="some of " + ", ".join(PARTS))
    given = parser.parse_args()
    unknown = set(given.parts.split(",")) - set(PARTS)
    if unknown:
        parser.error(f"there is no part {', '.join(sorted(unknown))}; choose of {', '.join(PARTS)}")
    found: dict[str, object] = {"llm": given.llm, "repeats": given.repeats, "machine": platform.processor()}
    found |= {"torch": torch.__version__, "threads": torch.get_num_threads()}
    for part in given.parts.split(","):
        found |= PARTS[part](given.llm, given.repeats, lambda line: print(line, file=sys.stderr, flush=True))
    if given.json:
        print(json.dumps(found))
        return
    for key, value in found.items():
        print(f"{key:>28}  {value:.3g}" if isinstance(value, float) else f"{key:>28}  {value}")


if __name__ == "__main__":
    main()
