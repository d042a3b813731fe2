"""A wrong value in a suite or config is explained in words of ours, never in pydantic's."""

import re
from typing import Literal

import pytest
from pydantic import Field, field_validator

from st2llm import config
from st2llm.config.explain import _EXPECTED
from st2llm.errors import ConfigError


class Part(config.Settings):
    size: int = 1


class Run(config.Settings):
    name: str = Field("a", pattern="^[a-z]+$", min_length=1, max_length=5)
    steps: int = Field(1, ge=1, le=9)
    rate: float = Field(0.5, gt=0, lt=1, allow_inf_nan=False)
    resume: bool = False
    mode: Literal["fast", "slow"] = "fast"
    seeds: list[int] = Field([0], min_length=1, max_length=2)
    pair: tuple[str, ...] = ()
    by_name: dict[str, float] = Field(default_factory=dict)
    part: Part = Part()
    sweep: list[str] | dict[str, str] = Field(default_factory=list)
    test: float | list[str] = 0.0
    last: int = Field(default_factory=lambda run: run["steps"])

    @field_validator("pair")
    @classmethod
    def _check_pair(cls, pair: tuple[str, ...]) -> tuple[str, ...]:
        if len(pair) == 1:
            raise ValueError(f"a pair has two names, but this one has {pair[0]!r} alone")
        return pair


@pytest.mark.parametrize(
    ("content", "says"),
    [
        ({"name": 3}, "name: expected text, but it is 3"),
        ({"name": "B"}, "name: expected text of the pattern ^[a-z]+$, but it is 'B'"),
        ({"name": "abcdefg"}, "name: expected at most 5 characters, but it is 'abcdefg'"),
        ({"steps": "many"}, "steps: expected a whole number, but it is 'many'"),
        ({"steps": 1.5}, "steps: expected a whole number, but it is 1.5"),
        ({"steps": 0}, "steps: expected a number of at least 1, but it is 0"),
        ({"steps": 10}, "steps: expected a number of at most 9, but it is 10"),
        ({"rate": 0}, "rate: expected a number above 0, but it is 0"),
        ({"rate": 1}, "rate: expected a number below 1, but it is 1"),
        ({"rate": "x"}, "rate: expected a number, but it is 'x'"),
        ({"rate": float("nan")}, "rate: expected a finite number, but it is nan"),
        ({"resume": "perhaps"}, "resume: expected true or false, but it is 'perhaps'"),
        ({"mode": "fats"}, "mode: expected 'fast' or 'slow', but it is 'fats'. Did you mean 'fast'?"),
        ({"seeds": 3}, "seeds: expected a list, but it is 3"),
        ({"seeds": []}, "seeds: expected at least 1 item, but it is []"),
        ({"seeds": ["a"]}, "seeds.0: expected a whole number, but it is 'a'"),
        ({"pair": "ab"}, "pair: expected a list, but it is 'ab'"),
        ({"pair": ["a"]}, "pair: a pair has two names, but this one has 'a' alone"),
        ({"by_name": [1]}, "by_name: expected a mapping of key: value, but it is [1]"),
        ({"by_name": {"x": "y"}}, "by_name.x: expected a number, but it is 'y'"),
        ({"part": 2}, "part: expected a mapping of key: value, but it is 2"),
        ({"part": {"size": None}}, "part.size: expected a whole number, but it is None"),
        ({"sweep": 3}, "sweep: expected a list or a mapping of key: value, but it is 3"),
        ({"test": {}}, "test: expected a number or a list, but it is {}"),
        (
            {"name": 3, "steps": 0},
            "name: expected text, but it is 3; steps: expected a number of at least 1, but it is 0",
        ),
    ],
)
def test_a_wrong_value_is_explained_by_key_expectation_and_value(content, says):
    with pytest.raises(ConfigError) as refused:
        config.parse(content, into=Run, where="run.yaml")
    assert str(refused.value) == f"run.yaml: {says}"


def test_no_expectation_is_worded_as_pydantic_words_it():
    pydantic = re.compile(r"\bInput\b|\bvalid\b|should be|dictionary|parse|Value error")
    assert not [words for words in _EXPECTED.values() if pydantic.search(words)]
