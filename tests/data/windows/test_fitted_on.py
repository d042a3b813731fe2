"""A model that was fitted on values of the test part is refused; what is not known is said."""

import json

import pytest
from support import five_kinds

from st2llm import tasks
from st2llm.data.windows import split
from st2llm.data.windows.coverage import coverage_of
from st2llm.data.windows.fitted_on import FittedOn, fitted_on_parts, instructions_fitted_on, refuse_overlap
from st2llm.errors import ConfigError, DataError
from st2llm.types import Provenance

SPLITS = split(five_kinds.graph(20), tasks.forecast(24, 6))
TEST = coverage_of(SPLITS.test, part="test", wanted=True)
TRAIN = fitted_on_parts({"train": SPLITS.train, "validation": SPLITS.validation, "none": []}, Provenance())


def test_the_message_names_model_data_places_and_time():
    leak = fitted_on_parts({"test": SPLITS.test}, Provenance())
    with pytest.raises(ConfigError) as caught:
        refuse_overlap(TRAIN + leak, TEST, who="The predictor 'theirs'")
    message = str(caught.value)
    for part in (
        "The predictor 'theirs' should be fitted on data without the test part",
        "the test part of tiny-graph (2024-01-17T00:00:00+00:00",
        "from 2024-01-18T00:00:00+00:00 to 2024-01-21T00:00:00+00:00",
        "gate-0, gate-1, gate-2 (3 of 3)",
        "Fit it on data that end before 2024-01-18",
    ):
        assert part in message


def test_training_and_validation_pass_and_so_does_what_is_unknown():
    refuse_overlap(TRAIN + FittedOn(unknown=("the weights w",)), TEST, who="it")
    refuse_overlap(TRAIN, None, who="it")
    assert [coverage.part for coverage in TRAIN.known] == ["train", "validation"]


def test_sums_hold_each_source_once_and_come_back_from_json():
    both = TRAIN + TRAIN + FittedOn(unknown=("a",)) + FittedOn(unknown=("a", "b"))
    assert (len(both.known), both.unknown) == (2, ("a", "b"))
    assert FittedOn.from_json(json.loads(json.dumps(both.to_json()))) == both
    assert both.summary()[2:] == [{"unknown": "a"}, {"unknown": "b"}]
    with pytest.raises(DataError, match="should be a list"):
        FittedOn.from_json({"data": "x"})


def test_an_instruction_set_says_what_it_holds_but_its_test_rows_are_not_trained_on(tmp_path):
    leak = fitted_on_parts({"test": SPLITS.test}, Provenance())
    for name, source in (("train", TRAIN), ("test", leak)):
        (tmp_path / name).mkdir()
        (tmp_path / name / "instruct.json").write_text(json.dumps({"covers": source.to_json()}))
    assert instructions_fitted_on(str(tmp_path)) == TRAIN
    (tmp_path / "train" / "instruct.json").write_text("{}")
    assert instructions_fitted_on(str(tmp_path)).unknown == (f"the instruction set {tmp_path}",)
    assert instructions_fitted_on("hub/name").unknown == ("the instruction set hub/name",)
