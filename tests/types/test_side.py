from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from support import weather
from support.graph_samples import forecast_sample

from st2llm.errors import DataError
from st2llm.types import (
    Channel,
    Document,
    DocumentLimits,
    DocumentSet,
    last_known_time,
    units_differ,
    with_targets,
)

TIMES = st.integers(-(10**6), 10**6)


def document(published: int, place: str = "", source: str = "news", text: str = "rain") -> Document:
    return Document(text, published, published, published, place, source)


@given(
    st.lists(st.tuples(TIMES, st.sampled_from(("", "a", "b"))), max_size=20),
    TIMES,
    st.one_of(st.none(), st.integers(1, 10**6)),
    st.one_of(st.none(), st.integers(1, 4)),
)
def test_a_document_is_never_shown_before_it_was_published_and_the_newest_come_first(rows, at, window, limit):
    items = tuple(document(published, place) for published, place in sorted(rows))
    shown = DocumentSet(items, {"news": DocumentLimits(window, limit)}).visible(at, ("a",))
    published = [each.published for each in shown]
    assert all(time <= at for time in published) and published == sorted(published, reverse=True)
    assert all(each.place in ("", "a") for each in shown)
    assert window is None or all(time >= at - window for time in published)
    for place in ("", "a"):
        readable = [
            each.published
            for each in items
            if each.place == place
            and each.published <= at
            and (window is None or each.published >= at - window)
        ]
        kept = [each.published for each in shown if each.place == place]
        assert kept == readable[::-1][: limit or len(readable)]


def test_documents_of_one_table_do_not_use_up_the_limit_of_another():
    items = tuple(document(t, source=source) for t in range(4) for source in ("news", "remarks"))
    limits = {"news": DocumentLimits(count=1), "remarks": DocumentLimits(count=3)}
    shown = DocumentSet(items, limits).visible(10)
    assert [each.source for each in shown].count("news") == 1 and len(shown) == 4


def test_documents_in_another_order_are_refused():
    with pytest.raises(DataError, match="in order of publication, but document 1"):
        DocumentSet((document(5), document(4)))


def test_what_is_known_in_advance_does_not_move_the_last_known_time():
    time = np.arange(4, dtype=np.int64)
    visible = np.ones((4, 1, 2), dtype=bool)
    visible[2:, :, 0] = False  # channel 1, the weather, is visible at the wanted steps
    wanted = np.zeros((4, 1, 2), dtype=bool)
    wanted[2:, :, 0] = True
    assert last_known_time(time, visible, wanted) == 1
    assert last_known_time(time, visible, np.zeros_like(wanted)) == 3
    assert last_known_time(time, np.zeros_like(visible), wanted) is None


def test_a_sample_of_one_place_keeps_its_documents_and_those_about_all():
    places = forecast_sample().place
    sample = forecast_sample(side={"documents": (document(0), *(document(0, place) for place in places))})
    assert [each.place for each in sample.at(places[1]).side.documents] == ["", places[1]]


@pytest.mark.parametrize(
    ("units", "differ"),
    [(("mph",), False), (("mph", "mph"), False), (("mph", "%"), True), (("mph", ""), True), (("", ""), True)],
)
def test_channels_are_pooled_only_where_all_are_known_to_have_one_unit(units, differ):
    assert units_differ([Channel(str(i), unit) for i, unit in enumerate(units)]) is differ


def test_a_task_makes_the_channels_it_does_not_name_covariates():
    temperature, humidity = with_targets(
        (weather.TEMPERATURE, weather.KNOWN), ("humidity",), where="task.forecast.target"
    )
    assert (temperature.role, humidity.role) == ("covariate", "target")
    assert not humidity.known_in_advance
    kept = with_targets((weather.TEMPERATURE, weather.KNOWN), (), where="")
    assert kept == (weather.TEMPERATURE, weather.KNOWN)


@pytest.mark.parametrize(
    ("targets", "message"),
    [
        (("humidty",), r"names the target 'humidty', .* Did you mean 'humidity'\?"),
        (("humidity", "humidity"), "names the target 'humidity' twice"),
    ],
)
def test_a_wrong_target_is_refused(targets, message):
    with pytest.raises(DataError, match=message):
        with_targets((weather.TEMPERATURE, weather.HUMIDITY), targets, where="task.forecast.target")


def test_details_of_other_channels_are_refused():
    with pytest.raises(DataError, match="its details are of temperature, rain"):
        weather.stations(Channel("rain", "mm"))


def test_a_container_without_a_target_is_refused():
    data = weather.stations()
    covariates = tuple(Channel(name, "", role="covariate") for name in data.channels)
    with pytest.raises(DataError, match="all channels .* are covariates"):
        replace(data, channel_details=covariates)
