"""The data and the task of an audit."""

import pytest
from support.audited import town

from st2llm.errors import ConfigError
from st2llm.evaluate.audit.by_name import _task_of


def test_a_task_is_read_from_its_name():
    assert (_task_of("forecast-36-12", town()).name) == "forecast-36-12"


@pytest.mark.parametrize(("name", "message"), [("impute-48", "'impute-48' came"), (None, "no default task")])
def test_another_task_and_none_are_refused(name, message):
    with pytest.raises(ConfigError, match=message):
        _task_of(name, town())
