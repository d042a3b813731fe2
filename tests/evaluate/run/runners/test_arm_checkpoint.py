"""A trained arm that is kept predicts as it did in its comparison, loaded as any other checkpoint."""

import json

import numpy as np
import pandas as pd
import pytest
import yaml
from support import tiny_suite

from st2llm.data import load_data
from st2llm.data.windows import split
from st2llm.evaluate.run.compare import compare
from st2llm.predict.checkpoint import CheckpointPredictor

ARMS = ("none", "llm-random", "llm-lora")


@pytest.fixture(scope="module")
def run(card, llama, tmp_path_factory):
    """A finished run of three arms that were kept, of which one was pushed to another folder."""
    folder = tmp_path_factory.mktemp("kept")
    content = tiny_suite.everything(card, llama)
    content["predictors"] = [p for p in content["predictors"] if p.get("backbone") in ARMS]
    content |= {"seeds": [3], "skip": "ridge", "controls": None, "windows": {"select": "even", "count": 3}}
    content["budget"] = {"steps": 2, "batch": 2, "lr": [0.01], "evaluations": 1}
    compare(
        tiny_suite.write_suite(folder / "suite.yaml", content),
        out=folder / "run",
        save_arms=True,
        progress=False,
    )
    return folder / "run", content


@pytest.mark.slow
def test_every_trained_arm_is_a_checkpoint_that_predicts_as_it_did(run, card):
    out, _ = run
    keys = sorted(path.name for path in (out / "checkpoints").iterdir())
    trained = [json.loads(p.read_text()) for p in (out / "arms").glob("*.json")]
    assert keys == sorted(arm["key"] for arm in trained if arm["backbone"] is not None) and len(keys) >= 3
    for key in keys:
        expected = pd.read_parquet(out / "predictions" / f"{key}.parquet")
        predictor = CheckpointPredictor.from_pretrained(out / "checkpoints" / key, name=key)
        task = predictor.recipe.parsed_task
        splits = split(load_data(str(card)), task, stride=predictor.recipe.split.stride, context=False)
        name = expected["sample"].iloc[0]
        (sample,) = [sample for sample in splits.test if sample.id == name]
        value = predictor.predict([sample.without_truth()])[0].value
        first = expected[expected["sample"] == name].sort_values(["place", "step"])
        got = np.concatenate([value[24 * 2 :, i, 0] for i in np.argsort(sample.place)])
        np.testing.assert_allclose(got, first["value"], rtol=1e-3, atol=1e-3, err_msg=key)
        assert predictor.fitted_on.known


@pytest.mark.slow
def test_a_saved_arm_takes_part_in_another_suite(run, card, tmp_path):
    out, _ = run
    key = next(path.name for path in (out / "checkpoints").iterdir() if path.name.startswith("none"))
    CheckpointPredictor.from_pretrained(out / "checkpoints" / key).save_pretrained(tmp_path / "pushed")
    content = tiny_suite.rules(card)
    content["predictors"].append(
        {"name": "kept", "family": "primitive", "checkpoint": str(tmp_path / "pushed")}
    )
    (tmp_path / "again.yaml").write_text(yaml.safe_dump(content))
    report = compare(tmp_path / "again.yaml", out=tmp_path / "again", limit=2, progress=False)
    assert any(record["predictor"] == "kept" and record["n"] > 0 for record in report.records)
