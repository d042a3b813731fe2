"""Predictions of a file are those of the run that wrote them, and a row that is amiss is named."""

import numpy as np
import pandas as pd
import pytest
from support import fields

from st2llm.data.windows.fitted_on import NOT_FITTED, FittedOn, fitted_on_parts
from st2llm.errors import DataError
from st2llm.evaluate.run_folder.store import write_predictions
from st2llm.evaluate.scoring.score_table import build_score_table
from st2llm.predict.baselines import fit_baseline
from st2llm.predict.external import predictions_file
from st2llm.types import Provenance, TrainingWindows


def samples():
    return fields.windows(fields.series(80), history=48, horizon=3, stride=12)


@pytest.fixture
def table():
    given = samples()
    return build_score_table(given, fit_baseline("yesterday", TrainingWindows(given)).predict(given))


def written(table, path):
    table.to_parquet(path) if path.suffix == ".parquet" else table.to_csv(path, index=False)
    return predictions_file.read_predictions(path, name="theirs")


@pytest.mark.parametrize("name", ["p.parquet", "p.csv"])
def test_what_a_run_wrote_is_read_as_it_was(table, tmp_path, name):
    given = samples()
    want = fit_baseline("yesterday", TrainingWindows(given)).predict(given)
    got = written(table, tmp_path / name).predict([s.without_truth() for s in given])
    for one, other in zip(got, want, strict=True):
        np.testing.assert_allclose(one.value, other.value)


def test_rows_are_matched_by_their_ids_in_whatever_order(table, tmp_path):
    given = samples()
    want = written(table, tmp_path / "p.parquet").predict(given)
    got = written(table.sample(frac=1.0, random_state=0), tmp_path / "q.parquet").predict(given[::-1])
    for one, other in zip(got[::-1], want, strict=True):
        np.testing.assert_array_equal(one.value, other.value)


def test_quantiles_are_taken_where_all_are_there(table, tmp_path):
    whole = written(table.assign(q05=1.0, q95=9.0), tmp_path / "p.parquet").predict(samples()[:1])[0]
    assert set(whole.quantiles) == {0.05, 0.95}
    assert (whole.quantiles[0.95][48:] == 9).all()


def test_a_value_that_is_not_there_is_an_answer_that_was_not_read(table, tmp_path):
    first = samples()[0].id
    table.loc[table["sample"] == first, "value"] = np.nan
    answer = written(table, tmp_path / "p.parquet").predict(samples()[:1])[0]
    assert answer.value is None and answer.unread_reason == "no value in the file"


def test_it_is_known_whether_there_is_anything_of_some_samples(table, tmp_path):
    read = written(table[table["sample"] == samples()[1].id], tmp_path / "p.parquet")
    assert not read.knows(samples()[:1])
    assert read.knows(samples())
    with pytest.raises(DataError, match="no rows of 1 of 1 samples, the first 'made-up/"):
        read.predict(samples()[:1])


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda t: t.iloc[1:], "has no row for .* and so for 1 entries"),
        (lambda t: pd.concat([t, t.iloc[:1]]), "has 2 rows for"),
        (lambda t: t.assign(step=t["step"] + 1), "nothing is asked of .* step 3"),
        (lambda t: t.assign(channel=4), "channel 4"),
        (lambda t: t.assign(place="nowhere"), "at place 'nowhere'"),
        (lambda t: t.drop(columns="value"), "has no column 'value'"),
        (lambda t: t.assign(value="many"), "'value' should hold numbers"),
    ],
)
def test_a_row_that_is_amiss_is_named(table, tmp_path, change, said):
    with pytest.raises(DataError, match=said):
        written(change(table.astype({"place": str})), tmp_path / "p.csv").predict(samples())


@pytest.mark.parametrize("name", ["p.parquet", "p.csv"])
def test_what_the_model_was_fitted_on_is_read_from_the_file_beside_it(table, tmp_path, name):
    path = tmp_path / name
    assert written(table, path).fitted_on == FittedOn(unknown=(f"the model behind {name}",))
    predictions_file.write_fitted_on(path, samples())
    assert predictions_file.read_predictions(path, name="theirs").fitted_on == fitted_on_parts(
        {"": samples()}, Provenance()
    )
    predictions_file.write_fitted_on(path, [])
    assert predictions_file.read_predictions(path, name="theirs").fitted_on == NOT_FITTED


def test_a_file_beside_it_adds_to_what_its_metadata_say(table, tmp_path):
    path = tmp_path / "p.parquet"
    write_predictions(path, table, FittedOn(unknown=("the weights m",)))
    predictions_file.write_fitted_on(path, samples())
    fitted_on = predictions_file.read_predictions(path, name="theirs").fitted_on
    assert fitted_on.unknown == ("the weights m",) and len(fitted_on.known) == 1


@pytest.mark.parametrize("content", ["{", "[3]", '[{"data": "x"}]', "[" * 100_000])
def test_a_damaged_file_beside_it_is_named(table, tmp_path, content):
    (tmp_path / "p.csv.fitted_on.json").write_text(content)
    with pytest.raises(DataError, match=r"p\.csv\.fitted_on\.json"):
        written(table, tmp_path / "p.csv")
