import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from st2llm import tasks
from st2llm.data import fetch, fetch_dataset, load_data, split, timestamp_zone
from st2llm.errors import ArtefactError, ConfigError, DataError
from st2llm.types import SensorGraph

Make = Callable[..., Path]
HAS_LOS_LOOP = (Path(os.environ.get("ST2LLM_DATA", "nowhere")) / "graph/los_loop/los_speed.csv").is_file()
_REAL_CACHE = str(fetch.cache_dir())


def test_an_unknown_name_gets_the_nearest_one() -> None:
    with pytest.raises(ConfigError, match="no data set 'los-lop'. Did you mean 'los-loop'"):
        load_data("los-lop")


def test_a_card_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"There is no data card .*none\.yaml"):
        load_data(tmp_path / "none.yaml")


def test_a_misspelled_card_or_file_gets_the_name_of_the_one_beside_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The message once named all data sets that ship, and the folder as `.`."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("ST2LLM_DATA", raising=False)
    Path("readings.csv").touch()
    Path("bicycles.yaml").write_text(
        "name: bicycles\nkind: graph\nvalues: reading.csv\ntime: time\nfreq: 1h\n"
    )
    with pytest.raises(
        ConfigError, match=r"There is no data card bycicles.yaml. Did you mean 'bicycles.yaml'"
    ):
        load_data("bycicles.yaml")
    with pytest.raises(DataError, match="no file 'reading.csv' in ") as caught:
        load_data("bicycles.yaml")
    assert f"in {tmp_path}. Did you mean 'readings.csv'?" in str(caught.value)


def test_data_with_no_origin_says_where_to_put_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("ST2LLM_DATA", raising=False)
    with pytest.raises(DataError, match="put them into DATA/graph/los_loop .* set ST2LLM_DATA to DATA"):
        load_data("los-loop")


def test_with_no_network_and_nothing_cached_the_command_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ST2LLM_OFFLINE", "1")
    with pytest.raises(ArtefactError, match="not in the cache.*`st2llm data fetch auckland-pedestrians`"):
        load_data("auckland-pedestrians")


def test_a_folder_of_a_path_source_is_fetched_in_place(make_card: Make) -> None:
    path = make_card(source={"path": "folder"})
    folder = path.parent / "folder"
    folder.mkdir()
    (path.parent / "values.csv").rename(folder / "values.csv")
    assert fetch_dataset(path)["values.csv"] == folder / "values.csv"
    assert load_data(path).places == ("queen-st", "high-st")


def test_timestamps_are_in_the_zone_that_the_card_names(make_card: Make) -> None:
    assert timestamp_zone(make_card(timezone="Pacific/Auckland")) == "Pacific/Auckland"
    assert timestamp_zone(make_card(timezone="Pacific/Auckland", stamps="UTC")) == "UTC"


@pytest.mark.slow
def test_loading_and_splitting_leave_torch_and_matplotlib_unimported(make_card: Make) -> None:
    code = (
        "import sys; import st2llm.data as data; from st2llm import tasks;"
        f"splits = data.split(data.load_data({str(make_card())!r}), tasks.forecast(4, 2)); splits.test[0];"
        "print(sorted({'torch', 'matplotlib', 'transformers'} & set(sys.modules)))"
    )
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", code], capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "[]"


@pytest.mark.skipif(not HAS_LOS_LOOP, reason="los-loop is not under $ST2LLM_DATA")
@pytest.mark.parametrize(("horizon", "windows"), [(3, 390), (6, 387), (9, 384), (12, 381)])
def test_los_loop_has_the_windows_of_its_protocol(horizon: int, windows: int) -> None:
    data = load_data("los-loop")
    splits = split(data, tasks.forecast(12, horizon))
    assert data.values.shape == (2016, 207, 1)
    assert len(splits.test) == windows
    assert splits.test.indices()[0] == 1612
    assert len(splits.validation) == 0


@pytest.fixture(scope="module")
def auckland() -> Iterator[SensorGraph]:
    """The real data, from the user's own cache where it is there."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("ST2LLM_CACHE", _REAL_CACHE)
        fetch_dataset("auckland-pedestrians")
        yield load_data("auckland-pedestrians")


@pytest.mark.slow
def test_the_new_years_peak_falls_on_the_first_hour_of_january(auckland: SensorGraph) -> None:
    total = np.nansum(auckland.values[:, :, 0], axis=1)
    local = (
        pd.DatetimeIndex(auckland.time.astype("datetime64[s]"))
        .tz_localize("UTC")
        .tz_convert(auckland.timezone)
    )
    for year in range(2020, 2027):
        midnight = pd.Timestamp(f"{year}-01-01", tz=auckland.timezone)
        near = (local >= midnight - pd.Timedelta("12h")) & (local < midnight + pd.Timedelta("5h"))
        assert local[near][int(np.argmax(total[near]))] == midnight


FOLDS = ("2019-04-07", "2020-04-05", "2021-04-04", "2022-04-03", "2023-04-02", "2024-04-07", "2025-04-06")
GAPS = ("2019-09-29", "2020-09-27", "2021-09-26", "2022-09-25", "2023-09-24", "2025-09-28")


@pytest.mark.slow
def test_every_row_of_auckland_is_kept_in_order_but_those_of_the_clock_changes(auckland: SensorGraph) -> None:
    """In 2024 the file has no row for the skipped hour."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("ST2LLM_CACHE", _REAL_CACHE)
        frame = pd.read_csv(fetch_dataset("auckland-pedestrians")["hourly_counts.csv"])
    day_before = {str(pd.Timestamp(day).date() - pd.Timedelta("1D")) for day in (*FOLDS, *GAPS)}
    dropped = frame["date"].isin(day_before) & frame["hour"].str.startswith("2:")
    assert dropped.sum() == 13
    folded = [int(pd.Timestamp(f"{day} 02:00+13:00").timestamp()) for day in FOLDS]
    without = np.isin(auckland.time, [*folded, *(second + 3600 for second in folded)])
    assert auckland.values.shape == (61_368, 21, 1)
    assert np.isnan(auckland.values[without]).all()
    counts = frame[~dropped].drop(columns=["date", "hour", "year"]).to_numpy()
    np.testing.assert_array_equal(auckland.values[~without, :, 0], counts)


@pytest.mark.slow
def test_auckland_days_begin_at_local_midnight_in_every_part(auckland: SensorGraph) -> None:
    splits = split(auckland, tasks.forecast(168, 24), stride=24)
    slots = {
        s.side.calendar.step_of_day[s.first_wanted_step]
        for part in (splits.validation, splits.test)
        for s in part
    }
    assert slots == {0}
    assert len(splits.test) > 500


@pytest.mark.slow
def test_auckland_knows_its_holidays(auckland: SensorGraph) -> None:
    assert {"Christmas Day", "Auckland Anniversary Day"} <= set(auckland.calendar.holiday)


@pytest.mark.parametrize(
    ("value", "remedy"),
    [
        (
            pd.DataFrame(),
            "a DataFrame was given. Make a container of it: st2llm.SensorGraph.from_pandas(table)",
        ),
        (np.zeros((2, 2)), "a ndarray was given. Make a container of it: st2llm.SensorGraph.from_numpy"),
        ({"kind": "graph"}, "a dict was given. Write the keys of the card to a YAML file"),
        ([], "A container is loaded already"),
        (None, "a NoneType was given. Give for instance 'auckland-pedestrians'"),
    ],
)
def test_objects_in_place_of_a_name_are_refused_with_what_to_call(value, remedy):
    with pytest.raises(ConfigError) as raised:
        load_data(value)
    assert remedy in str(raised.value)
