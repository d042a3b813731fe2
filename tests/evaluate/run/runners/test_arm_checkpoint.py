"""A trained arm that is kept predicts as it did in its comparison, loaded as any other checkpoint."""

import json
import shutil

import numpy as np
import pandas as pd
import pytest
import yaml
from safetensors.torch import load_file, save_file
from support import tiny_suite

from st2llm.data import load_data
from st2llm.data.windows import split
from st2llm.errors import DataError
from st2llm.evaluate.run.compare import compare
from st2llm.predict.checkpoint import CheckpointPredictor

ARMS = ("none", "llm-random", "llm-frozen", "llm-lora")


@pytest.fixture(scope="module")
def run(card, llama, tmp_path_factory):
    """A finished run of three arms that were kept, of which one was pushed to another folder."""
    folder = tmp_path_factory.mktemp("kept")
    content = tiny_suite.everything(card, llama)
    content["predictors"] = [p for p in content["predictors"] if p["name"] in ARMS]
    content |= {"seeds": [3], "skip": "ridge", "controls": None, "windows": {"select": "even", "count": 3}}
    content["budget"] = {"steps": 6, "batch": 4, "lr": [3.0e-3], "evaluations": 6}
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
    soft = [
        pd.read_parquet(out / "predictions" / f"{name}-3.parquet") for name in ("llm-frozen", "llm-random")
    ]
    assert not np.allclose(soft[0]["value"], soft[1]["value"]), "arms that did not move are all the ridge"
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
def test_an_arm_saved_without_the_norm_of_its_prompts_is_refused(run, card, tmp_path):
    """Caught: arms that predicted otherwise than in their comparison, since the norm had another name."""
    out, _ = run
    folder = shutil.copytree(out / "checkpoints" / "llm-frozen-3", tmp_path / "earlier")
    head = load_file(folder / "head.safetensors")
    assert "down.prompt_norm.mean" in head
    save_file({name: w for name, w in head.items() if "prompt_norm" not in name}, folder / "head.safetensors")
    predictor = CheckpointPredictor.from_pretrained(folder)
    sample = split(load_data(str(card)), predictor.recipe.parsed_task, stride=24, context=False).test[0]
    with pytest.raises(DataError, match="left out how the arm standardises its prompts"):
        predictor.predict([sample.without_truth()])


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
