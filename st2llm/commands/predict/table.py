"""The table of predictions that people read: a row for each predicted entry, with its time as text."""

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd
from jaxtyping import Float64, Int64

from st2llm.data import calendar, positions
from st2llm.data.windows.fitted_on import FittedOn
from st2llm.errors import ConfigError
from st2llm.evaluate.run_folder.store import write_predictions
from st2llm.evaluate.scoring.score_table import build_score_table
from st2llm.files import write_text
from st2llm.predict.text import QUANTILES
from st2llm.types import HOUR_S, Prediction, Sample

FORMATS = ("csv", "parquet", "json")
_SAME_FRAME_M = 1.0
"""The most metres by which degrees and metres of the same fixes may differ to be of one frame."""
_COLUMNS = [
    "sample", "place", "step", "channel", "channel_name", "time", "timestamp", "value", "unit", "lon", "lat",
    "label", "rank", "answer", "probability", "q05", "q50", "q95", "unread",
]  # fmt: skip


def prediction_table(
    samples: Sequence[Sample], predictions: Sequence[Prediction], *, top: int = 1
) -> pd.DataFrame:
    """A row for each wanted entry of each sample, and for a place, mark or class one for each of the `top` options.

    step: counts from the first wanted step. channel, channel_name: the last axis of the values, -1 for a class. time:
    seconds since 1970 UTC (milliseconds where fixes are less than a second apart, and from the first frame of a clip).
    timestamp: the time in ISO 8601 in the time zone of the data, for an event that predicted from its gap; none for
    clips. value: in the unit of the data; unit: that of the channel, of graphs and grids. lon, lat: degrees of a
    predicted position, where the data have degrees. answer, rank, probability: an option, its rank (1 is the most
    likely) and its probability, where the model has one. q05, q50, q95: quantiles, where the model has them or draws.
    unread: whether the answer of a language model could not be read.
    """
    frame = build_score_table(samples, [prediction.with_quantiles(QUANTILES) for prediction in predictions])
    if not len(frame):
        return frame
    position = {sample.id: i for i, sample in enumerate(samples)}
    owner = np.array([position[id] for id in frame["sample"].cat.categories])[frame["sample"].cat.codes]
    frame = frame.drop(columns="rank", errors="ignore").assign(
        channel_name=_channel_names(samples, owner, frame["channel"].to_numpy()),
        timestamp=np.array(_timestamps(samples, owner, frame), dtype=object),
    )
    if samples[0].kind in ("graph", "grid"):
        frame = frame.assign(unit=_units(samples, owner, frame["channel"].to_numpy()))
    degrees = _degrees(samples, predictions, owner, frame)
    if np.isfinite(degrees).any():
        frame = frame.assign(lon=degrees[:, 0], lat=degrees[:, 1])
    frame = _with_options(frame, [predictions[i] for i in owner], top)
    return frame[[name for name in _COLUMNS if name in frame]]


def _channel_names(
    samples: Sequence[Sample], owner: Int64[np.ndarray, " row"], channel: np.ndarray
) -> list[str]:
    names = [(*sample.side.channels, "class") for sample in samples]
    return [names[i][at] for i, at in zip(owner.tolist(), channel.tolist(), strict=True)]


def _units(samples: Sequence[Sample], owner: Int64[np.ndarray, " row"], channel: np.ndarray) -> list[str]:
    """The unit of each row; none for a class."""
    units = [(*(one.unit for one in sample.side.described_channels), "") for sample in samples]
    return [units[i][at] for i, at in zip(owner.tolist(), channel.tolist(), strict=True)]


def _timestamps(
    samples: Sequence[Sample], owner: Int64[np.ndarray, " row"], frame: pd.DataFrame
) -> list[str | None]:
    """The time of each row in ISO 8601, with the offset of the time zone of the data."""
    first = samples[0]
    if first.kind == "video":
        return [None] * len(frame)
    scale = 0.001 if first.kind == "trajectory" and not first.side.freq_s else 1.0
    seconds = frame["time"].to_numpy() * scale
    if first.task == "next-event":
        seconds = np.rint(seconds + HOUR_S * _event_gaps(samples, owner, frame))
    return _iso(seconds, first.side.timezone)


def _degrees(
    samples: Sequence[Sample],
    predictions: Sequence[Prediction],
    owner: Int64[np.ndarray, " row"],
    frame: pd.DataFrame,
) -> Float64[np.ndarray, "row 2"]:
    """Longitude and latitude of the predicted position of each row, NaN where there is none."""
    degrees = np.full((len(frame), 2), np.nan)
    if samples[0].kind != "trajectory" or samples[0].task == "next-place":
        return degrees
    for number, (sample, prediction) in enumerate(zip(samples, predictions, strict=True)):
        rows = np.flatnonzero(owner == number)
        path = _path_degrees(sample, prediction)
        if path is not None:
            degrees[rows] = path[frame["step"].to_numpy()[rows] + sample.first_wanted_step]
    return degrees


def _path_degrees(sample: Sample, prediction: Prediction) -> Float64[np.ndarray, "time 2"] | None:
    """The predicted positions of a path in degrees; None where its metres have no known origin."""
    lonlat, names = sample.side.step_lonlat, sample.side.channels
    if lonlat is None or prediction.value is None or not {"x", "y"} <= set(names):
        return None
    at = [names.index("x"), names.index("y")]
    known_xy = sample.values[:, 0, at]
    known = np.flatnonzero(np.isfinite(known_xy).all(axis=1) & np.isfinite(lonlat).all(axis=1))
    if not known.size:
        return None
    origin = positions.origin_of(lonlat[known[:1]], known_xy[known[:1]])
    # A card may give metres of a plane of its own beside degrees.
    if np.abs(positions.metres_from(origin, lonlat[known]) - known_xy[known]).max() > _SAME_FRAME_M:
        return None
    return positions.lonlat_at(origin, prediction.value[:, 0, at])


def _event_gaps(
    samples: Sequence[Sample], owner: Int64[np.ndarray, " row"], frame: pd.DataFrame
) -> Float64[np.ndarray, " row"]:
    """The predicted hours up to each event, NaN where they are not predicted."""
    is_gap = frame["channel"].to_numpy() == samples[0].side.channels.index("gap_h")
    gaps = np.full(len(samples), np.nan)
    gaps[owner[is_gap]] = frame["value"].to_numpy()[is_gap]
    return np.asarray(gaps[owner], dtype=np.float64)


def _iso(seconds: Float64[np.ndarray, " row"], timezone: str) -> list[str | None]:
    """Instants as text, each distinct one formatted once; None for NaN."""
    distinct, position = np.unique(seconds, return_inverse=True)
    zone = calendar.zone(timezone)
    texts = [
        pd.Timestamp(round(at * 1000), unit="ms", tz="UTC").tz_convert(zone).isoformat()
        if np.isfinite(at)
        else None
        for at in distinct.tolist()
    ]
    return [texts[i] for i in position.tolist()]


def _with_options(frame: pd.DataFrame, predictions: Sequence[Prediction], top: int) -> pd.DataFrame:
    """The table with a row for each of the `top` options of an entry that a ranking answers."""
    if "answer" not in frame:
        return frame
    ranked = frame["answer"].notna().to_numpy()
    shown = [
        min(top, len(prediction.ranking or ())) if is_ranked else 1
        for prediction, is_ranked in zip(predictions, ranked, strict=True)
    ]
    rank = np.concatenate([np.arange(count) for count in shown])
    row = np.repeat(np.arange(len(frame)), shown)
    longer = frame.iloc[row].reset_index(drop=True)
    options = [
        _option(predictions[i], at) if ranked[i] else (None, np.nan)
        for i, at in zip(row.tolist(), rank.tolist(), strict=True)
    ]
    names, probabilities = zip(*options, strict=True)
    return longer.assign(
        rank=pd.array(
            [at + 1 if ranked[i] else None for i, at in zip(row.tolist(), rank.tolist(), strict=True)],
            dtype="Int64",
        ),
        answer=list(names),
        probability=np.array(probabilities, dtype=np.float64),
    )


def _option(prediction: Prediction, rank: int) -> tuple[str | None, float]:
    """The option at a rank (from 0 on) and its probability."""
    if prediction.ranking is None:
        return None, np.nan
    shares = prediction.probabilities
    return prediction.ranking[rank], np.nan if shares is None else shares[rank]


def table_format(out: Path | None, named: str | None) -> str:
    """The format of a table: as named, else by the name of the file, else csv.

    Raises ConfigError for an unknown format, one that differs from the name of the file, and parquet without a file.
    """
    suffix = out.suffix.removeprefix(".") if out is not None else ""
    known = " or ".join(f"--format {name}" for name in FORMATS)
    if named is not None and named not in FORMATS:
        raise ConfigError(f"There is no format {named!r}. Choose {known}.")
    if named is not None and suffix in FORMATS and suffix != named:
        raise ConfigError(
            f"--out is {out}, but --format is {named}. Give both the same, or leave --format out."
        )
    if out is not None and named is None and suffix not in FORMATS:
        raise ConfigError(
            f"--out should name a .csv, .parquet or .json file, but it is {out}. Or choose {known}."
        )
    chosen = named or suffix or "csv"
    if out is None and chosen == "parquet":
        raise ConfigError("A parquet table cannot be printed. Name a file with --out FILE.parquet.")
    return chosen


def as_text(frame: pd.DataFrame, name: str) -> str:
    """The table as csv, or as a JSON list of objects with null for a missing value."""
    if name == "csv":
        return str(frame.to_csv(index=False))
    rows = frame.astype(object).where(frame.notna(), None).to_dict("records")
    return json.dumps(rows, ensure_ascii=False, allow_nan=False, indent=1) + "\n"


def write_table(path: Path, frame: pd.DataFrame, name: str, fitted_on: FittedOn) -> None:
    """Writes the table in one step; a parquet file also says what the model was fitted on."""
    if name == "parquet":
        write_predictions(path, frame, fitted_on)
        return
    text = as_text(frame, name)
    write_text(path, text)
