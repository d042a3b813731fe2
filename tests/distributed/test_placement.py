"""Words of the command line name a part or an engine, and others are refused with what was expected."""

import pytest

from st2llm.distributed.placement import Part, parse_part, parse_placement
from st2llm.errors import ConfigError


def test_a_part_is_named_from_one():
    assert parse_part("2/8") == Part(2, 8)


@pytest.mark.parametrize("words", ["0/2", "3/2", "1", "a/b", "1/0", "-1/2", "1/2/3"])
def test_words_that_name_no_part_are_refused(words):
    with pytest.raises(ConfigError, match="from 1/n to n/n"):
        parse_part(words)


def test_an_engine_has_an_address_and_settings():
    placement = parse_placement("slurm://gpu?time=600&account=mine", workers=3, gpus=1, threads=4)
    assert (placement.engine, placement.address) == ("slurm", "gpu")
    assert dict(placement.settings) == {"time": "600", "account": "mine"}
    assert (placement.workers, placement.gpus, placement.threads) == (3, 1, 4)


def test_an_unknown_engine_is_refused_with_the_nearest_one():
    with pytest.raises(ConfigError, match="Did you mean 'slurm'"):
        parse_placement("slrum://gpu")


@pytest.mark.parametrize(("given", "threads"), [("2", 4), (None, 2)], ids=["set by the user", "shared out"])
def test_workers_of_this_machine_share_its_cores_unless_threads_are_set(monkeypatch, given, threads):
    monkeypatch.setattr("torch.get_num_threads", lambda: 4)
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    if given is not None:
        monkeypatch.setenv("OMP_NUM_THREADS", given)
    assert parse_placement("ray", workers=2).threads == threads


def test_numbers_that_cannot_be_are_refused():
    for options in ({"workers": 0}, {"threads": 0}, {"gpus": -1.0}):
        with pytest.raises(ConfigError, match="takes a number from"):
            parse_placement("ray", **options)
