"""Grammars and the answers that they allow, made by hypothesis; how each is read, by rules of its own."""

import datetime
import json
import re
from dataclasses import replace
from decimal import Decimal

from hypothesis import strategies as st

from st2llm.types import Choice, ChoiceSequence, Clock, FreeText, Json, Numbers, Pair, Ranking, Scientific

ONE = st.just(1)
SEPARATORS = [",", ", ", " ", "\n", " | ", "; "]
WORDS = [
    "1",
    "17",
    "170",
    "7",
    "Käthe",
    "Käthe Kollwitz",
    "上海",
    "上",
    "107-quay-street",
    "a, b",
    "yes",
    "Yes",
]
PLACE = {
    "type": "object",
    "properties": {"place": {"enum": ["上海", "a"]}, "n": {"type": "integer", "minimum": 0, "maximum": 99}},
    "required": ["place", "n"],
    "additionalProperties": False,
}


def written(value: int, grammar: Numbers) -> str:
    """A number of so many last decimals, as its grammar writes it."""
    whole, part = divmod(abs(value), 10**grammar.decimals)
    text = f"{whole:0{grammar.digits}d}" if grammar.fixed else str(whole)
    text = grammar.gap.join(text)
    return "-" * (value < 0) + text + (f".{part:0{grammar.decimals}d}" if grammar.decimals else "")


@st.composite
def number(draw, count=ONE):
    """Numbers whose range, if any, holds at least one number that can be written."""
    digits, decimals, signed = draw(st.integers(1, 3)), draw(st.integers(0, 2)), draw(st.booleans())
    top = 10 ** (digits + decimals) - 1
    bounds = sorted(draw(st.integers(-top if signed else 0, top)) for _ in range(2))
    low, high = (draw(st.sampled_from([None, value / 10**decimals])) for value in bounds)
    return Numbers(
        draw(count),
        digits,
        draw(st.sampled_from(SEPARATORS)),
        fixed=draw(st.booleans()),
        decimals=decimals,
        signed=signed,
        low=low,
        high=high,
    )


@st.composite
def gapped(draw):
    """Whole numbers with a blank between two digits."""
    found = draw(
        number(st.integers(1, 3)).filter(lambda grammar: grammar.separator.strip() and not grammar.decimals)
    )
    return replace(found, gap=" ", separator=draw(st.sampled_from([",", " , ", "; ", " | "])))


@st.composite
def powers(draw):
    low, high = sorted(draw(st.tuples(st.integers(-12, 12), st.integers(-12, 12))))
    separator = draw(st.sampled_from([",", ", ", " "]))
    return Scientific(
        draw(st.integers(1, 3)),
        draw(st.integers(0, 3)),
        separator,
        low=low,
        high=high,
        signed=draw(st.booleans()),
    )


@st.composite
def listed(draw):
    separator = draw(st.sampled_from([" , ", ",", ", ", " | ", "; "]))
    known = ["up", "up a lot", "flat", "down", "down a lot", "A", "B", "上", "上海"]
    words = draw(st.lists(st.sampled_from(known), min_size=1, max_size=6, unique=True))
    return ChoiceSequence(tuple(words), draw(st.integers(1, 4)), separator)


def span(grammar: Numbers) -> tuple[int, int]:
    """The least and the greatest number that it allows, in last decimals."""
    top, unit = 10 ** (grammar.digits + grammar.decimals) - 1, 10**grammar.decimals
    low = -top if grammar.low is None else round(grammar.low * unit)
    high = top if grammar.high is None else round(grammar.high * unit)
    return max(low, -top if grammar.signed else 0), min(high, top)


@st.composite
def choice(draw):
    return Choice(tuple(draw(st.lists(st.sampled_from(WORDS), min_size=1, max_size=8, unique=True))))


@st.composite
def ranking(draw):
    separator = draw(st.sampled_from(SEPARATORS))
    mark = (separator.strip() or separator)[0]
    known = [word for word in WORDS if mark not in word]
    words = draw(st.lists(st.sampled_from(known), min_size=1, max_size=8, unique=True))
    return Ranking(tuple(words), draw(st.integers(1, len(words))), separator)


NARROW = st.one_of(
    number(st.integers(1, 4)),
    gapped(),
    powers(),
    listed(),
    choice(),
    ranking(),
    st.builds(Pair, number(), number()),
    st.builds(Clock, st.sampled_from(["time", "date", "datetime"])),
)
EXACT = st.one_of(NARROW, st.just(Json(json.dumps(PLACE))))
THOUGHT = st.builds(FreeText, st.integers(1, 9), st.sampled_from(["Answer:", "So:", "Réponse :"]), EXACT)


@st.composite
def answer(draw, grammar):
    """An answer that the grammar allows."""
    match grammar:
        case Numbers():
            values = draw(
                st.lists(st.integers(*span(grammar)), min_size=grammar.count, max_size=grammar.count)
            )
            return grammar.separator.join(written(value, grammar) for value in values)
        case Scientific():
            one = Numbers(1, 1, decimals=grammar.decimals, signed=grammar.signed)
            values = draw(st.lists(st.integers(*span(one)), min_size=grammar.count, max_size=grammar.count))
            power = st.integers(grammar.low, grammar.high)
            return grammar.separator.join(f"{written(value, one)}e{draw(power)}" for value in values)
        case ChoiceSequence(options, count, separator):
            return separator.join(draw(st.lists(st.sampled_from(options), min_size=count, max_size=count)))
        case Choice(options):
            return draw(st.sampled_from(options))
        case Ranking(candidates, count, separator):
            return separator.join(draw(st.permutations(candidates))[:count])
        case Pair(x, y):
            return f"({draw(answer(x))}, {draw(answer(y))})"
        case Clock(form):
            moment = draw(st.datetimes(min_value=datetime.datetime(1, 1, 1))).isoformat(" ", "minutes")
            return {"time": moment[-5:], "date": moment[:10], "datetime": moment}[form]
        case Json():
            place, n = draw(st.sampled_from(["上海", "a"])), draw(st.integers(0, 99))
            return json.dumps({"place": place, "n": n}, ensure_ascii=False)
    raise NotImplementedError(grammar)


def is_number(text: str, grammar: Numbers) -> bool:
    if grammar.gap:
        apart = text.lstrip("-").split(grammar.gap)
        plain = replace(grammar, gap="")
        return all(len(digit) == 1 for digit in apart) and is_number(text.replace(grammar.gap, ""), plain)
    whole = rf"[0-9]{{{grammar.digits}}}" if grammar.fixed else rf"(0|[1-9][0-9]{{0,{grammar.digits - 1}}})"
    part = rf"\.[0-9]{{{grammar.decimals}}}" if grammar.decimals else ""
    if re.fullmatch(f"-?{whole}{part}", text) is None or (text.startswith("-") and not float(text)):
        return False
    low, high = span(grammar)
    return low <= int(Decimal(text) * 10**grammar.decimals) <= high


def is_readable(text: str, grammar) -> bool:
    """Whether the words are an answer in the grammar."""
    match grammar:
        case Numbers():
            parts = text.split(grammar.separator)
            return len(parts) == grammar.count and all(is_number(part, grammar) for part in parts)
        case Scientific():
            one = Numbers(1, 1, decimals=grammar.decimals, signed=grammar.signed)
            parts = [part.partition("e") for part in text.split(grammar.separator)]
            powers = [power for _, _, power in parts]
            known = all(
                grammar.low <= int(power) <= grammar.high and power == str(int(power)) for power in powers
            )
            return (
                known and len(parts) == grammar.count and all(is_number(first, one) for first, _, _ in parts)
            )
        case ChoiceSequence(options, count, separator):
            parts = text.split(separator)
            return len(parts) == count and set(parts) <= set(options)
        case Choice(options):
            return text in options
        case Ranking(candidates, count, separator):
            parts = text.split(separator)
            return len(parts) == count == len(set(parts)) and set(parts) <= set(candidates)
        case Pair(x, y):
            found = re.fullmatch(r"\((\S+), (\S+)\)", text)
            return found is not None and is_number(found[1], x) and is_number(found[2], y)
        case Clock(form):
            pattern = {"time": "%H:%M", "date": "%Y-%m-%d", "datetime": "%Y-%m-%d %H:%M"}[form]
            datetime.datetime.strptime(text, pattern)
            return len(text) == {"time": 5, "date": 10, "datetime": 16}[form]
        case Json():
            content = json.loads(text)
            return content["place"] in ("上海", "a") and 0 <= content["n"] <= 99 and len(content) == 2
        case FreeText(_, cue, inner):
            lines = [found.end() for found in re.finditer(rf"^[ \t]*{cue}", text, re.MULTILINE)]
            return bool(lines) and is_readable(text[lines[-1] :].removeprefix(" "), inner)
    raise NotImplementedError(grammar)
