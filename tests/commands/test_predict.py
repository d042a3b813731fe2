"""`st2llm predict` answers all of a data set and what comes after it, without labels."""

import numpy as np
import pandas as pd
import pytest
import yaml
from support import video_files

from st2llm import tasks
from st2llm.commands.predict import _windows, predict_to_file
from st2llm.config.training import PretrainRecipe
from st2llm.errors import DataError
from st2llm.train.pretrain import pretrain
from st2llm.train.recipes import load_recipe
from st2llm.types import Video

pytestmark = pytest.mark.slow

SPLIT = {"train": 0.4, "validation": 0.3, "test": 0.3, "by": "time"}
RNG = np.random.default_rng(3)


def card(folder, name, **more):
    path = folder / f"{name}.yaml"
    path.write_text(
        yaml.safe_dump({"name": name, "timezone": "UTC", "split": SPLIT, **more}, sort_keys=False)
    )
    return str(path)


def walks(folder, name, turn, *, label=None, steps=31):
    """Five people; `name` is also that of the file."""
    rows = []
    for who in range(5):
        angle = RNG.uniform(0, 6) + turn * np.arange(steps)
        for step, (x, y) in enumerate(np.cumsum(np.stack([np.cos(angle), np.sin(angle)], axis=1), axis=0)):
            rows.append((f"{name}{who}", f"2024-01-01T10:{step:02d}:00", x, y))
    pd.DataFrame(rows, columns=["who", "at", "x", "y"]).to_csv(folder / f"{name}.csv", index=False)
    return {"file": f"{name}.csv", **({"label": label} if label else {})}


def tracks(folder, name, *tables):
    columns = {"object": "who", "time": "at", "x": "x", "y": "y", "freq": "1min", "unit": "m"}
    return card(folder, name, kind="trajectory", table=list(tables), **columns)


def trained(folder, data, task, objectives, **more):
    made = {
        "id": "t",
        "data": data,
        "split": {"stride": 1},
        "task": task,
        "encoder": {"d_st": 16, "layers": 1},
        "objectives": objectives,
        "budget": {"steps": 60, "batch": 32, "lr": 5e-3, "evaluations": 2, **more},
    }
    (folder / "t.yaml").write_text(yaml.safe_dump(made))
    pretrain(load_recipe(folder / "t.yaml", into=PretrainRecipe), folder / "run")
    return folder / "run"


def answers(run, data):
    predict_to_file(run, data, run / "answers.parquet")
    return pd.read_parquet(run / "answers.parquet")


def test_paths_are_forecast_to_their_end_and_beyond(tmp_path):
    data = tracks(tmp_path, "walks", walks(tmp_path, "walks", 0.0))
    run = trained(tmp_path, data, {"forecast": {"history": 5, "horizon": 3}}, {"likelihood": {}}, steps=2)
    got = answers(run, data)
    assert np.isfinite(got["value"]).all()
    for who, mine in got.groupby("place"):
        at = pd.to_datetime(mine["time"].unique(), unit="s").sort_values()
        assert at[-1] == pd.Timestamp("2024-01-01T10:33:00"), who  # three minutes after the last fix
        assert len(at) == 27  # each step once, from the sixth fix on but for what does not fill a window
        known = pd.read_csv(tmp_path / "walks.csv").query("who == @who")
        last = mine[mine["time"] == mine["time"].max()].set_index("channel")["value"]
        ahead = known[["x", "y"]].diff().iloc[-1] * 3 + known[["x", "y"]].iloc[-1]
        assert np.allclose([last[0], last[1]], ahead, atol=0.5)  # they walk straight on


def test_the_event_after_the_last_is_told(tmp_path):
    at = pd.Timestamp("2024-01-01") + pd.to_timedelta(np.cumsum(RNG.exponential(5, 120)), unit="h").round("s")
    pd.DataFrame({"at": at, "size": RNG.normal(3, 1, 120)}).to_csv(tmp_path / "alarms.csv", index=False)
    window = ["2024-01-01T00:00:00", str(at.max().ceil("D"))]
    data = card(
        tmp_path, "alarms", kind="event", table="alarms.csv", time="at", magnitude="size", window=window,
    )  # fmt: skip
    run = trained(tmp_path, data, {"next-event": {"history": 5}}, {"likelihood": {}}, steps=20)
    got = answers(run, data)
    assert got["sample"].nunique() == 116  # 115 events that five come before, and the one to come
    last = got[got["sample"] == "alarms/event-120"]
    assert len(last) == 1
    assert (last["value"] > 0).all()
    assert (last["q05"] < last["q95"]).all()


def test_classes_are_told_of_objects_without_labels_and_not_of_others_data(tmp_path):
    gaits = [walks(tmp_path, "bent", 0.5, label="bent"), walks(tmp_path, "even", 0.0, label="even")]
    data = tracks(tmp_path, "gaits", *gaits)
    run = trained(tmp_path, data, {"classify": {"length": 6}}, {"likelihood": {}})
    unknown = tracks(tmp_path, "unknown", walks(tmp_path, "somebody", 0.5))
    got = answers(run, unknown)
    assert set(got["answer"]) == {"bent"}
    assert got["place"].nunique() == 5
    assert got["sample"].nunique() == 25  # 31 fixes are five windows of six each
    swapped = [{**gaits[0], "label": "round"}, {**gaits[1], "label": "even"}]
    other = tracks(tmp_path, "other", *swapped)
    predicted = answers(run, other)  # what the data call their objects does not matter
    assert set(predicted["answer"]) <= {"bent", "even"}


def test_places_that_it_was_not_trained_on_are_refused(tmp_path):
    def stays(name, places):
        rows = [
            (who, pd.Timestamp("2024-01-01") + pd.Timedelta(days=day, hours=hour), places[(day + who + i) % 3])
            for who in range(3) for day in range(40) for i, hour in enumerate((8, 12, 19))
        ]  # fmt: skip
        pd.DataFrame(rows, columns=["who", "at", "place"]).to_csv(tmp_path / f"{name}.csv", index=False)
        return card(
            tmp_path, name, kind="trajectory", table=f"{name}.csv", object="who", time="at", place="place", freq="any",
        )  # fmt: skip

    data = stays("home", ["gym", "home", "work"])
    task = {"next-place": {"history": 10, "context_stays": 3}}
    run = trained(tmp_path, data, task, {"likelihood": {}}, steps=2)
    assert set(answers(run, data)["answer"]) <= {"gym", "home", "work"}
    with pytest.raises(
        DataError, match=r"trained on 3 places or classes \(gym, home, work\), but .* \(bar, home, work\)"
    ):
        answers(run, stays("away", ["bar", "home", "work"]))


def test_clips_are_asked_window_by_window_from_their_end():
    clips = [
        Video(
            name="films",
            id=name,
            frames=video_files.square_film(count, 30, 36),
            time_s=np.arange(count) / 25,
            fps=25.0,
        )
        for name, count in (("a", 12), ("b", 9))
    ]
    asked = _windows(clips, tasks.forecast(4, 3), ())
    assert [sample.id for sample in asked] == ["films/a/2", "films/a/5", "films/b/2"]
