"""The byte machine of each kind of grammar."""

from st2llm.errors import ConfigError
from st2llm.llm.grammar.byte_machines import (
    AmbiguousSequenceMachine,
    ByteMachine,
    ChoiceMachine,
    SequenceMachine,
)
from st2llm.llm.grammar.clock import ClockMachine
from st2llm.llm.grammar.number import NumberMachine, SpacedNumberMachine
from st2llm.llm.grammar.ranking import RankingMachine
from st2llm.llm.grammar.word_lists import check_separator, check_words, stop_strings_of
from st2llm.types import Choice, ChoiceSequence, Clock, Numbers, Pair, Ranking, Scientific


def build_machine(
    grammar: Numbers | Scientific | ChoiceSequence | Choice | Ranking | Pair | Clock,
) -> ByteMachine:
    """The byte machine of a grammar. Raises ConfigError for an empty or contradictory grammar."""
    match grammar:
        case Numbers():
            return _numbers_machine(grammar)
        case Scientific():
            return _scientific_machine(grammar)
        case ChoiceSequence():
            check_words("options", grammar.options)
            _check_series(grammar.count, grammar.separator, "")
            check_separator("list of words", grammar.separator, grammar.options)
            return _repeat(ChoiceMachine(grammar.options), grammar.count, grammar.separator)
        case Choice():
            check_words("options", grammar.options)
            return ChoiceMachine(grammar.options)
        case Ranking():
            return RankingMachine(grammar)
        case Pair():
            _check_coordinate(grammar.x)
            _check_coordinate(grammar.y)
            parts = (
                ChoiceMachine(("(",)),
                NumberMachine(grammar.x),
                ChoiceMachine((", ",)),
                NumberMachine(grammar.y),
                ChoiceMachine((")",)),
            )
            return SequenceMachine(parts)
        case Clock():
            return ClockMachine(grammar)


def _numbers_machine(grammar: Numbers) -> ByteMachine:
    """A list of `count` numbers. Raises ConfigError for a separator or a gap that could be part of a number."""
    used_characters = "0123456789" + ("-" if grammar.signed else "") + ("." if grammar.decimals else "")
    _check_series(grammar.count, grammar.separator, used_characters)
    if not grammar.gap:
        return _repeat(NumberMachine(grammar), grammar.count, grammar.separator)
    if grammar.decimals or set(grammar.gap) & set(used_characters):
        raise ConfigError(
            f"A gap between digits needs numbers without decimals and none of the characters {used_characters}, but it "
            f"is {grammar.gap!r}, decimals {grammar.decimals}. Correct the template."
        )
    if not grammar.separator.replace(grammar.gap, ""):
        raise ConfigError(
            f"The separator {grammar.separator!r} cannot be distinguished from the gap {grammar.gap!r} between digits. "
            f"Take one with another sign, such as ' , '."
        )
    return _repeat(SpacedNumberMachine(grammar), grammar.count, grammar.separator)


def _scientific_machine(grammar: Scientific) -> ByteMachine:
    """A list of `count` numbers in scientific notation. Raises ConfigError as `_numbers_machine` does."""
    used_characters = "0123456789-e" + ("." if grammar.decimals else "")
    _check_series(grammar.count, grammar.separator, used_characters)
    first = NumberMachine(Numbers(1, 1, decimals=grammar.decimals, signed=grammar.signed))
    digits = len(str(max(abs(grammar.low), abs(grammar.high))))
    power = NumberMachine(
        Numbers(1, digits, signed=grammar.low < 0, low=float(grammar.low), high=float(grammar.high))
    )
    return _repeat(SequenceMachine((first, ChoiceMachine(("e",)), power)), grammar.count, grammar.separator)


def _repeat(item: ByteMachine, count: int, separator: str) -> ByteMachine:
    """The item `count` times with the separator between."""
    between = ChoiceMachine((separator,))
    parts = [item, *(part for _ in range(count - 1) for part in (between, item))]
    ambiguous = isinstance(item, ChoiceMachine | SpacedNumberMachine) and separator[0] in item.alphabet
    return (AmbiguousSequenceMachine if ambiguous else SequenceMachine)(
        parts, stop_strings_of(separator.encode())
    )


def _check_series(count: int, separator: str, used_characters: str) -> None:
    if count < 1 or not separator or set(separator) & set(used_characters):
        raise ConfigError(
            f"An answer's grammar needs at least 1 number, and a separator without any of {used_characters!r}, but it "
            f"has count {count}, separator {separator!r}. Correct the template."
        )


def _check_coordinate(grammar: Numbers) -> None:
    if grammar.count != 1:
        raise ConfigError(
            f"A coordinate is one number, but its grammar has count {grammar.count}. Give count 1 for x and y."
        )
