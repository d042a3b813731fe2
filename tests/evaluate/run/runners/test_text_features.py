"""Predictors with text features stand in a comparison beside rules, with their twins, controls and three gains."""

import json
import shutil

import numpy as np
import pandas as pd
import pytest
import yaml
from support import tiny_suite

import st2llm
from st2llm.config.suite import Suite
from st2llm.errors import ConfigError
from st2llm.evaluate.run.runners import text_features


@pytest.fixture(scope="module")
def told(card, tmp_path_factory):
    """The card with a document for each day, published on the day before."""
    folder = tmp_path_factory.mktemp("told")
    shutil.copytree(card.parent, folder, dirs_exist_ok=True)
    days = pd.date_range("2024-01-01", periods=tiny_suite.DAYS, freq="D")
    texts = ["A market is announced." if day.day_of_year % 3 else "It may rain." for day in days]
    pd.DataFrame({"from": days.date, "out": days.date, "words": texts}).to_csv(
        folder / "news.csv", index=False
    )
    content = yaml.safe_load((folder / card.name).read_text())
    documents = {
        "table": "news.csv",
        "text": "words",
        "start": "from",
        "end": "from",
        "published": "out",
        "limit": 2,
    }
    (folder / card.name).write_text(yaml.safe_dump({**content, "side": {"documents": documents}}))
    return folder / card.name


def predictors():
    states = {"family": "soft", "text_features": "states"}
    return [
        {"name": "last-value", "family": "baseline"},
        {"name": "ridge", "family": "baseline"},
        {"name": "words", "family": "primitive", "text_features": "tfidf"},
        {"name": "llm", "backbone": "llm-frozen", **states},
        {"name": "llm-shuffled", "backbone": "llm-frozen", "set": {"documents": "shuffled"}, **states},
        {"name": "llm-random", "backbone": "llm-random", **states},
    ]


@pytest.mark.slow
def test_each_seed_draws_its_windows_and_records_hold_the_gains_of_text(told, llama, tmp_path):
    """Caught: seeds that draw the same windows, a twin of other settings, and a control that is chosen as the best."""
    suite = tiny_suite.rules(
        told,
        predictors=predictors(),
        seeds=[0, 1, 2],
        llm={"name": str(llama), "dtype": "fp32"},
        train={"share": 0.5},
    )
    report = st2llm.compare(suite, out=tmp_path / "run", progress=False)
    pooled = {record["predictor"]: record for record in report.records if record["seed"] is None}
    by_seed = {
        r["metrics"]["mae"]["value"]
        for r in report.records
        if r["predictor"] == "ridge" and r["seed"] is not None
    }
    assert len(by_seed) == 3
    llm = pooled["llm"]
    assert llm["gain_pretraining"]["vs"] == "llm-random" and llm["gain_pretraining"]["n_seeds"] == 3
    assert (llm["gain_text"]["vs"], llm["gain_embeddings"]["vs"]) == ("ridge", "words")
    assert pooled["words"]["gain_text"]["vs"] == "ridge" and "gain_embeddings" not in pooled["words"]
    assert (
        llm["text_features"] == "states"
        and llm["best_on_validation"]
        and not pooled["llm-shuffled"]["best_on_validation"]
    )
    arm = json.loads((tmp_path / "run" / "arms" / "llm-0.json").read_text())
    assert arm["cost"]["tokens_in"] > 0 and arm["cost"]["params_total"] > 0 and arm["residual_of"] == "ridge"


class Slow:
    """Takes a second a text that it has not read before, by a clock that the test sets."""

    def __init__(self, clock):
        self.clock, self.known = clock, set()

    def encode(self, texts):
        self.clock.append(self.clock[-1] + len(set(texts) - self.known))
        self.known |= set(texts)
        return np.zeros((len(texts), 1))


def test_texts_that_an_earlier_job_read_cost_what_they_cost_it(monkeypatch):
    """Caught: later seeds whose reading seemed to take no time, and a mean over seeds that was a fifth of the cost."""
    clock = [0.0]
    monkeypatch.setattr(text_features.time, "perf_counter", lambda: clock[-1])
    encoder = text_features.MeteredEncoder(Slow(clock))
    encoder.encode(["one", "two"])
    encoder.encode(["one", "two"])
    assert encoder.seconds_of(["one", "two", "one"]) == 2
    assert encoder.seconds_of(["two"]) == 1 and encoder.seconds_of(["never"]) == 0


@pytest.mark.slow
def test_arms_that_read_documents_in_their_prompt_have_a_gain_of_text(told, llama, tmp_path):
    """Caught: arms that are trained on one set of prompts whatever they are shown, and seeds of shuffled documents that
    are trained as one stack.
    """
    soft = {"family": "soft", "backbone": "llm-frozen"}
    suite = tiny_suite.rules(
        told,
        predictors=[
            {"name": "last-value", "family": "baseline"},
            {"name": "llm", **soft},
            {"name": "llm-newest", "set": {"newest_documents": 1}, **soft},
            {"name": "llm-without", "set": {"documents": "none"}, **soft},
            {"name": "llm-shuffled", "set": {"documents": "shuffled"}, **soft},
        ],
        seeds=[0, 1],
        llm={"name": str(llama), "dtype": "fp32"},
        encoder={"d_st": 16, "patch": 24, "layers": 1},
        budget={"steps": 3, "batch": 4, "lr": [1.0e-2]},
        validation={"select": "even", "count": 4},
        windows={"select": "even", "count": 6},
    )
    report = st2llm.compare(suite, out=tmp_path / "run", progress=False)
    pooled = {record["predictor"]: record for record in report.records if record["seed"] is None}
    for name in ("llm", "llm-newest", "llm-shuffled"):
        assert pooled[name]["gain_text"]["vs"] == "llm-without"
    assert "gain_text" not in pooled["llm-without"]
    assert not pooled["llm-shuffled"]["best_on_validation"]
    arms = {p.stem: json.loads(p.read_text()) for p in (tmp_path / "run" / "arms").glob("*.json")}
    tokens = {name: arms[f"{name}-0"]["cost"]["tokens_in"] for name in pooled if name.startswith("llm")}
    assert tokens["llm"] > tokens["llm-newest"] > tokens["llm-without"]
    errors = [pooled[name]["metrics"]["mae"]["value"] for name in pooled]
    assert len(set(errors)) == len(errors)
    assert arms["llm-0"]["encoder_sha256"] == arms["llm-without-0"]["encoder_sha256"]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"family": "soft"}, "its family is primitive, without a backbone"),
        ({"text_features": "states"}, "its family is soft, with the backbone llm-frozen or llm-random"),
        ({"set": {"residual_of": "rigde"}}, "there is no rule 'rigde'"),
        ({"set": {"residual_of": "linear"}}, "the residual rule 'linear' does not answer forecast"),
        (
            {"text_features": None, "backbone": "none", "set": {"documents": "shuffled"}},
            "`documents` is for predictors",
        ),
        ({"set": {"documents": "none"}}, "`documents: none` shows it no text"),
        (
            {"text_features": None, "backbone": "none", "set": {"ending": "Why?"}},
            "`ending` is for predictors with `text_features`",
        ),
    ],
)
def test_settings_that_do_not_go_together_are_refused(card, changes, message):
    words = {"name": "words", "family": "primitive", "text_features": "tfidf", **changes}
    with pytest.raises((ConfigError, ValueError)) as raised:
        Suite.model_validate(tiny_suite.rules(card, predictors=[words]))
    assert message in str(raised.value)
