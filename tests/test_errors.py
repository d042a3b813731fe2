"""Hints at the end of messages."""

from st2llm.errors import nearest


def test_a_name_that_is_not_near_gets_all_names():
    """`time: date` of a table with the columns time and lat was once answered with "Did you mean 'lat'?"."""
    assert nearest("date", ["time", "lat", "lon"]) == "Known: lat, lon, time."
    assert nearest("timestamp", ["time", "lat", "lon"]) == "Did you mean 'time'?"
    assert nearest("anything", []) == "Known: none."
