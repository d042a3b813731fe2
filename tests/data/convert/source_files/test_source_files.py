import json
import zipfile
from pathlib import Path

import pytest
import yaml

import st2llm
from st2llm.data import instances, load_data
from st2llm.data.card.base import Conversion
from st2llm.data.convert.source_files import CONVERTERS, converted
from st2llm.data.convert.source_files.context_is_key import convert as convert_instances
from st2llm.data.convert.source_files.power_outages import convert as convert_outages
from st2llm.data.convert.source_files.storm_places import convert as convert_storms
from st2llm.data.convert.source_files.tourism import convert as convert_tourism
from st2llm.errors import ConfigError, DataError

SHEET = "http://schemas.openxmlformats.org/spreadsheetml/2006/main"
HEADER = [
    "variables",
    "OUTAGE.START.DATE",
    "OUTAGE.START.TIME",
    "CAUSE.CATEGORY",
    "U.S._STATE",
    "OUTAGE.DURATION",
]
TRIPS = "rownames,Quarter,Region,State,Purpose,Trips\n1,1998 Q1,Perth,WA,Holiday,5\n2,1998 Q2,Perth,WA,Business,7\n"


def sheet(path: Path, rows: list[list[str]], *, prefix: str = "") -> Path:
    """An Excel sheet whose texts are shared strings, as the published file has them."""
    strings = sorted({cell for row in rows for cell in row if not _number(cell)})
    lines = [
        f'<row r="{i}">'
        + "".join(
            f'<c r="{chr(65 + j)}{i}"'
            + (f"><v>{cell}</v></c>" if _number(cell) else f' t="s"><v>{strings.index(cell)}</v></c>')
            for j, cell in enumerate(row)
            if cell
        )
        + "</row>"
        for i, row in enumerate(rows, start=1)
    ]
    with zipfile.ZipFile(path, "w") as bundle:
        items = "".join(f"<si><t>{text}</t></si>" for text in strings)
        bundle.writestr("xl/sharedStrings.xml", f'{prefix}<sst xmlns="{SHEET}">{items}</sst>')
        bundle.writestr(
            "xl/worksheets/sheet1.xml", f'<worksheet xmlns="{SHEET}">{"".join(lines)}</worksheet>'
        )
    return path


def _number(cell: str) -> bool:
    return cell.replace(".", "", 1).isdigit()


def test_outages_get_their_start_from_two_cells_and_those_without_a_duration_are_left_out(tmp_path: Path):
    rows = [
        ["Major power outages"],
        HEADER,
        ["Units", "Day", "Hour", "", "", "mins"],
        ["", "40725", "0.75", "severe weather", "Maine", "90"],
        ["", "40724", "0.5", "NA", "Maine", "0"],
        ["", "40726", "0.5", "islanding", "Maine", "NA"],
    ]
    made = convert_outages({"outage.xlsx": sheet(tmp_path / "outage.xlsx", rows)})["outages.csv"]
    assert made.splitlines() == [
        "start,cause,detail,hurricane,state,climate_region,climate,hours,log10_hours,customers",
        "2011-06-30T12:00,,,,Maine,,,0.0000,-1.7782,",
        "2011-07-01T18:00,severe weather,,,Maine,,,1.5000,0.1761,",
    ]


@pytest.mark.parametrize(
    ("content", "message"),
    [("", "holds no outage"), ('<!DOCTYPE x [<!ENTITY a "b">]>', "declares a document type")],
)
def test_a_sheet_without_outages_or_with_a_document_type_is_refused(tmp_path: Path, content, message):
    with pytest.raises(DataError, match=message):
        convert_outages({"a.xlsx": sheet(tmp_path / "a.xlsx", [HEADER], prefix=content)})


def test_quarters_lie_in_their_first_month_and_purposes_become_columns(tmp_path: Path):
    (tmp_path / "tourism.csv").write_text(TRIPS, encoding="utf-8")
    made = convert_tourism({"tourism.csv": tmp_path / "tourism.csv"})
    assert made["regions.csv"].splitlines() == ["region,name", 'Perth,"Perth, WA"']
    first, second = made["trips.csv"].splitlines()[1:]
    assert first == "1998-01-15T00:00:00+00:00,Perth,,5,,"
    assert second.startswith("1998-04-16T") and second.endswith(",Perth,7,,,")
    assert made["log_trips.csv"].splitlines()[1:] == [
        first.replace(",5,", ",0.778151,"),
        second.replace(",7,", ",0.903090,"),
    ]
    (tmp_path / "tourism.csv").write_text("Quarter,Region\n1998,Perth\n", encoding="utf-8")
    with pytest.raises(DataError, match="row 1 should hold a Quarter"):
        convert_tourism({"tourism.csv": tmp_path / "tourism.csv"})


def storm(tmp_path: Path, fix: str) -> str:
    (tmp_path / "fixes.csv").write_text(f"track_id,time,basin,lon,lat\n{fix}\n", encoding="utf-8")
    (tmp_path / "cities.csv").write_text(
        "name,country,lon,lat\nNaha,Japan,127.68,26.21\nSuva,Fiji,178.44,-18.14\n", encoding="utf-8"
    )
    files = {name: tmp_path / name for name in ("cities.csv", "fixes.csv")}
    return convert_storms(files)["sentences.csv"].splitlines()[1]


def test_a_fix_is_told_by_its_basin_and_the_nearest_city_also_across_the_date_line(tmp_path: Path):
    assert storm(tmp_path, "s,2000-01-01 06:00:00,WP,129.68,26.21") == (
        's,2000-01-01 06:00:00,"Tropical cyclone in the Western North Pacific, 200 km east of Naha, Japan."'
    )
    assert storm(tmp_path, "s,2000-01-01,SP,-179.56,-18.14").endswith('210 km east of Suva, Fiji."')
    assert storm(tmp_path, "s,2000-01-01,SP,181.44,-21.14").endswith('km south-east of Suva, Fiji."')
    with pytest.raises(DataError, match="should hold fixes with track_id.*KeyError: 'XX'"):
        storm(tmp_path, "s,2000-01-01,XX,0,0")


def instance(**changes) -> str:
    row = {
        "name": "ATMClosedTask",
        "seed": 1,
        "weight": "1/4",
        "background": "An ATM.",
        "scenario": "",
        "constraints": "At most 9.",
        "past_time": json.dumps({"0": {"2024-01-01": 1.0, "2024-01-02": 2.0, "2024-01-03": 3.0}}),
        "future_time": json.dumps({"0": {"2024-01-04": 4.0, "2024-01-05": 5.0}}),
        "region_of_interest": [1],
        "metric_scaling": 0.5,
        **changes,
    }
    return json.dumps(row) + "\n"


@pytest.fixture
def context_card(tmp_path: Path) -> Path:
    (tmp_path / "tasks.jsonl").write_text(instance() + instance(seed=2), encoding="utf-8")
    card = {
        "name": "context",
        "kind": "graph",
        "convert": {"by": "context-is-key", "files": ["tasks.jsonl"]},
        "values": "atm-closed-task-1.csv",
        "time": "time",
        "freq": "1D",
    }
    (tmp_path / "context.yaml").write_text(yaml.safe_dump(card), encoding="utf-8")
    return tmp_path / "context.yaml"


def test_an_instance_is_a_data_set_with_its_texts_in_order_and_one_window(context_card: Path):
    assert instances(context_card) == ["atm-closed-task-1", "atm-closed-task-2"]
    data = load_data(f"{context_card}#atm-closed-task-2")
    (task,) = st2llm.tasks.from_config(data.default_task)
    (sample,) = st2llm.split(data, task).train
    assert sample.truth[3:, 0, 0].tolist() == [4.0, 5.0] and sample.visible[:3].all()
    assert [document.text for document in sample.side.documents] == ["An ATM.", "At most 9."]
    with pytest.raises(ConfigError, match="no instance 'atm-close-task-2'. Did you mean 'atm-closed-task-2'"):
        load_data(f"{context_card}#atm-close-task-2")


def test_limits_that_a_text_states_are_listed_with_the_instance(tmp_path: Path):
    path = tmp_path / "tasks.jsonl"
    limits = {
        "constraint_min": 0.5,
        "constraint_variable_max_index": [0, 1],
        "constraint_variable_max_values": [7.0, 9],
    }
    path.write_text(instance() + instance(seed=2, **limits), encoding="utf-8")
    listed = convert_instances({"tasks.jsonl": path})["instances.csv"].splitlines()
    assert listed[0].endswith("weight,lower,upper,upper_at")
    assert listed[1].endswith(",0.5,0.25,,,") and listed[2].endswith(",0.5,0.25,0.5,,0:7.0 1:9.0")


def test_steps_are_months_where_they_are_and_a_faulty_line_is_named(tmp_path: Path):
    path = tmp_path / "tasks.jsonl"
    past = json.dumps({"0": {"2018-01": 1.0, "2018-02": 2.0}})
    path.write_text(
        instance(past_time=past, future_time=json.dumps({"0": {"2018-03": 3.0}})), encoding="utf-8"
    )
    assert "freq: month" in convert_instances({"tasks.jsonl": path})["atm-closed-task-1.yaml"]
    path.write_text(instance() + '{"name": "x"}\n', encoding="utf-8")
    with pytest.raises(DataError, match="line 2 holds no instance"):
        convert_instances({"tasks.jsonl": path})


def test_files_are_made_once_for_each_content_of_the_source(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("ST2LLM_CACHE", str(tmp_path / "cache"))
    source = tmp_path / "tourism.csv"
    rule = Conversion(by="australia-tourism", files=["tourism.csv"])
    source.write_text(TRIPS, encoding="utf-8")
    first = converted(rule, {"tourism.csv": source})
    made = (first / "trips.csv").stat().st_mtime_ns
    assert converted(rule, {"tourism.csv": source}) == first
    assert (first / "trips.csv").stat().st_mtime_ns == made
    source.write_text(TRIPS + "3,1998 Q3,Perth,WA,Other,1\n", encoding="utf-8")
    assert converted(rule, {"tourism.csv": source}) != first
    assert [item.name for item in first.parent.iterdir() if item.name.startswith(".")] == []
    with pytest.raises(ConfigError, match="no converter 'australia-turism'. Did you mean"):
        converted(Conversion(by="australia-turism", files=["tourism.csv"]), {"tourism.csv": source})
    assert set(CONVERTERS) >= {"us-power-outages", "australia-tourism", "context-is-key"}
