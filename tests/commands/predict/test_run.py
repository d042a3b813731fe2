"""`st2llm predict` answers all of a data set and what comes after it, without labels."""

import json
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import yaml
from support import five_kinds, video_files
from support.command_line import run_cli

from st2llm import tasks
from st2llm.commands.predict.run import (
    PredictRequest,
    _check_known_covariates,
    predict,
    predict_to_file,
)
from st2llm.commands.predict.windows import all_windows
from st2llm.config.training import PretrainRecipe
from st2llm.errors import ConfigError, DataError
from st2llm.train.pretrain import pretrain
from st2llm.train.recipes import load_recipe
from st2llm.types import Covariate, Video

pytestmark = pytest.mark.slow

SPLIT = {"train": 0.4, "validation": 0.3, "test": 0.3, "by": "time"}
RNG = np.random.default_rng(3)


def write_card(folder, name, **more):
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
    return write_card(folder, name, kind="trajectory", table=list(tables), **columns)


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
    future = predict(PredictRequest(run, data, future="2min"))
    at = ["2024-01-01T10:31:00+00:00", "2024-01-01T10:32:00+00:00"]
    assert future.table["timestamp"].unique().tolist() == at
    whole = got.merge(future.table, on=["place", "channel", "time"], suffixes=("", "_future"))
    assert len(whole) == 20 and np.allclose(whole["value"], whole["value_future"], atol=1e-4)
    assert (future.table["q05"] <= future.table["q95"]).all()
    with pytest.raises(ConfigError, match=r"predicts 3 steps ahead .* but 4 are asked for. .* at most 3"):
        predict(PredictRequest(run, data, horizon=4))
    with pytest.raises(ConfigError, match=r"whole steps of 60 s, but 90s is 1.5"):
        predict(PredictRequest(run, data, future="90s"))
    with pytest.raises(ConfigError, match="Give one of them"):
        PredictRequest(run, data, future="2min", horizon=2)
    with pytest.raises(ConfigError, match="Leave --template out"):
        predict(PredictRequest(run, data, template="trajectory/forecast"))


def test_the_event_after_the_last_is_told(tmp_path):
    at = pd.Timestamp("2024-01-01") + pd.to_timedelta(np.cumsum(RNG.exponential(5, 120)), unit="h").round("s")
    pd.DataFrame({"at": at, "size": RNG.normal(3, 1, 120)}).to_csv(tmp_path / "alarms.csv", index=False)
    window = ["2024-01-01T00:00:00", str(at.max().ceil("D"))]
    data = write_card(
        tmp_path, "alarms", kind="event", table="alarms.csv", time="at", magnitude="size", window=window,
    )  # fmt: skip
    run = trained(tmp_path, data, {"next-event": {"history": 5}}, {"likelihood": {}}, steps=20)
    got = answers(run, data)
    assert got["sample"].nunique() == 116  # 115 events that five come before, and the one to come
    last = got[got["sample"] == "alarms/event-120"]
    assert len(last) == 1
    assert (last["value"] > 0).all()
    assert (last["q05"] < last["q95"]).all()
    future = predict(PredictRequest(run, data, horizon=1)).table
    assert future["value"].tolist() == pytest.approx(last["value"].tolist(), rel=1e-4)
    assert pd.Timestamp(future["timestamp"][0]).tz_localize(None) == pd.Timestamp(
        last["time"].iloc[0] + 3600 * future["value"][0], unit="s"
    ).round("s")
    with pytest.raises(ConfigError, match="Give their number with --horizon"):
        predict(PredictRequest(run, data, future="24h"))


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
        return write_card(
            tmp_path, name, kind="trajectory", table=f"{name}.csv", object="who", time="at", place="place", freq="any",
        )  # fmt: skip

    data = stays("home", ["gym", "home", "work"])
    task = {"next-place": {"history": 10, "context_stays": 3}}
    run = trained(tmp_path, data, task, {"likelihood": {}}, steps=2)
    assert set(answers(run, data)["answer"]) <= {"gym", "home", "work"}
    future = predict(PredictRequest(run, data, future="11h", top=3)).table
    assert set(future["timestamp"]) == {"2024-02-10T06:00:00+00:00"}
    assert future["rank"].tolist() == [1, 2, 3] * 3
    shares = future.groupby("place", observed=True)["probability"]
    assert np.allclose(shares.sum(), 1, atol=1e-6) and shares.apply(lambda s: s.is_monotonic_decreasing).all()
    with pytest.raises(ConfigError, match="for instance --future 8h"):
        predict(PredictRequest(run, data, horizon=1))
    with pytest.raises(
        DataError,
        match=r"3 places or classes \(gym, home, work\), but .* \(bar, home, work\). It has not seen bar\.",
    ):
        answers(run, stays("away", ["bar", "home", "work"]))
    with pytest.raises(DataError, match=r"The data lack work\."):
        answers(run, stays("fewer", ["gym", "home", "gym"]))


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
    asked = all_windows(clips, tasks.forecast(4, 3), ())
    assert [sample.id for sample in asked] == ["films/a/2", "films/a/5", "films/b/2"]


def test_a_graph_is_forecast_after_its_last_row_in_each_format(card, tmp_path):
    run = trained(
        tmp_path, str(card), {"forecast": {"history": 24, "horizon": 6}}, {"regression": {}}, steps=2
    )
    options = ("predict", run, "--data", card, "--future", "4h")
    out = tmp_path / "next.csv"
    done = run_cli(*options, "--out", out, "--plot", tmp_path / "next.png")
    assert done.returncode == 0, done.stderr
    table = pd.read_csv(out)
    assert table["timestamp"].unique().tolist() == [f"2024-03-21T0{hour}:00:00+00:00" for hour in range(4)]
    assert np.isfinite(table["value"]).all() and table["place"].nunique() == 3
    assert (tmp_path / "next.png").read_bytes().startswith(b"\x89PNG")
    assert json.loads(run_cli(*options, "--format", "json").stdout)[0]["value"] == pytest.approx(
        table["value"][0]
    )
    assert "Give both the same" in run_cli(*options, "--out", out, "--format", "json").stderr
    assert "at most 6" in run_cli(*options[:-1], "7h").stderr


def test_a_covariate_that_ends_before_the_steps_asked_for_is_named():
    sample = five_kinds.field_samples(five_kinds.graph(3), 4, 2)[0]
    known = Covariate("rain", np.array([1.0, 1, 1, 1, 2, np.nan]), known_in_advance=True)
    sample = replace(sample, side=replace(sample.side, covariates=(known,)))
    _check_known_covariates([sample], 1, five_kinds.graph(3))
    with pytest.raises(
        DataError, match=r"'rain', .* no value at 2024-01-01T05:00:00\+00:00 and 1 of 2 steps"
    ):
        _check_known_covariates([sample], 2, five_kinds.graph(3))
