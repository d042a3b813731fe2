"""Does each native model find the truth where it is known? Its error or likelihood over the oracle's, 1 is perfect.

python benchmarks/known_truths.py [--json]

Made on the spot (seed 0): a graph autoregression, a Hawkes process, a Markov chain of places, and a Gaussian process of
which a diffusion model draws. The oracle knows the process that made the data. Asked: within 1.1 of the oracle, and
better than the null rule.
"""

import argparse
import json

import numpy as np
import torch

from st2llm import tasks
from st2llm.config.model import EncoderSettings
from st2llm.config.training import PretrainObjectives, PretrainRecipe
from st2llm.data.calendar import calendar_of
from st2llm.data.windows import split
from st2llm.metrics import crps
from st2llm.model.arm import ArmSpec, build_arm
from st2llm.model.objectives.diffusion import DiffusionObjective
from st2llm.model.objectives.noise_schedule import NoiseSchedule
from st2llm.model.objectives.supervised import Likelihood, Regression
from st2llm.predict.arm import predict_in_batches
from st2llm.predict.baselines import fit_baseline
from st2llm.predict.build import build_pretraining_module, fit_pretraining_preprocessor
from st2llm.predict.preprocess.sequence import fit_sequence_preprocessor
from st2llm.train.loop.budget import Budget
from st2llm.train.loop.trainer import fit
from st2llm.types import NO_EDGES, Edges, Events, Sample, SensorGraph, SplitPlan, TrainingWindows, Trajectory

START, HOUR, SEED = 1_704_067_200, 3600, 0
PLAN = SplitPlan(0.7, 0.1, 0.2)
LIMIT = 1.1


def parts_of(data, task, stride: int = 1) -> list[list[Sample]]:
    parts = split(data, task, stride=stride)
    return [[part[i] for i in range(len(part))] for part in (parts.train, parts.validation, parts.test)]


def graph_autoregression() -> dict[str, float]:
    """x_t = 0.5 x_{t-1} + 0.4 mean of the neighbours + noise, on a ring of 12; the error of the next 3 steps."""
    rng, nodes, steps = np.random.default_rng(SEED), 12, 6000
    ring = np.arange(nodes)
    source = np.concatenate([(ring - 1) % nodes, (ring + 1) % nodes])
    target = np.concatenate([ring, ring])
    mix = 0.5 * np.eye(nodes)
    mix[target, source] += 0.2
    values = np.zeros((steps, nodes))
    for t in range(1, steps):
        values[t] = mix @ values[t - 1] + rng.normal(size=nodes)
    data = field("autoregression", values, Edges(source, target, np.ones(len(source))))
    train, validation, test = parts_of(data, tasks.forecast(4, 3), stride=3)
    recipe = recipe_of(
        {"forecast": {"history": 4, "horizon": 3}}, {"regression": {}}, graph="gcn", steps=1500
    )
    preprocessor = fit_pretraining_preprocessor(recipe, TrainingWindows(train))
    module = build_pretraining_module(recipe, preprocessor.window_shape(train[0]), train[0])
    objective = Regression(torch.from_numpy(preprocessor.scaler.std).float())
    learn(module, preprocessor, train, validation, objective, recipe)
    got = predict_in_batches(module, preprocessor, blind(test), batch_size=64, with_instructions=False)
    error = np.nanmean([np.abs(a.value - s.truth) for a, s in zip(got, test, strict=True)])
    powers = [np.linalg.matrix_power(mix, h) for h in (1, 2, 3)]
    best = [np.stack([p @ s.values[3, :, 0] for p in powers]) - s.truth[4:, :, 0] for s in test]
    null = [
        np.abs(a.value - s.truth)
        for a, s in zip(fit_baseline("last-value", TrainingWindows(train)).predict(test), test, strict=True)
    ]
    return {"model": error, "oracle": np.abs(best).mean(), "null": np.nanmean(null)}


def hawkes() -> dict[str, float]:
    """Rate 0.3 + sum of 0.6 exp(-(t - t_i)) an hour; the negative log-likelihood of the next gap, in nats.

    Nats have no nought: what is compared is how much worse than the oracle, in units of the rate that explains least.
    """
    rng, mu, jump, decay = np.random.default_rng(SEED), 0.3, 0.6, 1.0
    now, excited, times = 0.0, 0.0, []
    while len(times) < 8000:
        top = mu + excited
        step = rng.exponential(1 / top)
        now, excited = now + step, excited * np.exp(-decay * step)
        if rng.random() < (mu + excited) / top:
            times.append(now)
            excited += jump
    hours = np.array(times)
    stamps = START + np.rint(hours * HOUR).astype(np.int64)
    data = Events(
        name="hawkes", timezone="UTC", time=stamps, xy=np.zeros((len(stamps), 2)), window=(START, int(stamps[-1]) + 1),
        split=PLAN,
    )  # fmt: skip
    history = 20
    train, validation, test = parts_of(data, tasks.next_event(history))
    preprocessor = fit_sequence_preprocessor(TrainingWindows(train), skip="none", points=history)
    arm = sequence_arm(preprocessor)
    learn(arm, preprocessor, train, validation, Likelihood(), recipe_of(None, None, steps=1500))
    at = test[0].side.channels.index("gap_h")

    def nats(answers) -> float:
        gaps = [s.truth[-1, 0, at : at + 1] for s in test]
        found = [-float(a.log_density["gap_h"](g)[0]) for a, g in zip(answers, gaps, strict=True)]
        return float(np.mean(found))

    best = []
    for s in test:
        ages = (s.time[-2] - s.time[:-1]) / HOUR
        gap = float(s.truth[-1, 0, at])
        before = jump * np.exp(-decay * ages).sum()
        rate = mu + before * np.exp(-decay * gap)
        best.append(mu * gap + before * (1 - np.exp(-decay * gap)) / decay - np.log(rate))
    null = fit_baseline("homogeneous-rate", TrainingWindows(train)).predict(blind(test))
    model = predict_in_batches(arm, preprocessor, blind(test), batch_size=64, with_instructions=False)
    return {"model": nats(model), "oracle": float(np.mean(best)), "null": nats(null)}


def markov_chain() -> dict[str, float]:
    """Places of a chain of 12 states, each with a few likely successors; nats of the next place."""
    rng, states, people, stays = np.random.default_rng(SEED), 12, 20, 500
    chain = rng.dirichlet(np.full(states, 0.3), size=states)
    walks = []
    for person in range(people):
        at, path = int(rng.integers(states)), []
        for _ in range(stays):
            path.append(at)
            at = int(rng.choice(states, p=chain[at]))
        time = START + 6 * HOUR * np.arange(stays, dtype=np.int64)
        walks.append(
            Trajectory(
                name="chain", id=f"p{person}", timezone="UTC", time=time, place=tuple(f"s{s:02d}" for s in path),
                split=PLAN,
            )
        )  # fmt: skip
    train, validation, test = parts_of(walks, tasks.next_place(10, 5, target_time=False))
    preprocessor = fit_sequence_preprocessor(TrainingWindows(train), skip="none", points=15)
    arm = sequence_arm(preprocessor)
    learn(arm, preprocessor, train, validation, Likelihood(), recipe_of(None, None, steps=1500))
    batch = preprocessor.collate(test, with_instructions=False)
    with torch.no_grad():
        arm.eval()
        model = float(arm.head.loss(arm(batch), batch).mean())
    options = test[0].side.options
    channel = test[0].side.channels.index("place")
    order = [int(name[1:]) for name in options]
    last = [order[int(s.values[-2, 0, channel])] for s in test]
    following = [order[int(s.truth[-1, 0, channel])] for s in test]
    oracle = -np.log([chain[a, b] for a, b in zip(last, following, strict=True)]).mean()
    seen = np.bincount([order[int(s.truth[-1, 0, channel])] for s in train], minlength=states) / len(train)
    return {"model": model, "oracle": float(oracle), "null": float(-np.log(seen[following]).mean())}


def gaussian_diffusion() -> dict[str, float]:
    """Two correlated series, x_t = 0.9 x_{t-1} + noise: the fair CRPS of 50 draws of the next 4 steps."""
    rng, steps, phi = np.random.default_rng(SEED), 6000, 0.9
    root = np.linalg.cholesky(np.array([[1.0, 0.7], [0.7, 1.0]]))
    values = np.zeros((steps, 2))
    for t in range(1, steps):
        values[t] = phi * values[t - 1] + root @ rng.normal(size=2)
    data = field("gaussian", values, Edges(np.array([0, 1]), np.array([1, 0]), np.ones(2)))
    words = {"forecast": {"history": 4, "horizon": 4}}
    train, validation, test = parts_of(data, tasks.forecast(4, 4), stride=2)
    recipe = recipe_of(
        words, {"diffusion": {"schedule": "cosine", "prediction_type": "velocity"}}, graph="gcn", steps=3000
    )
    preprocessor = fit_pretraining_preprocessor(recipe, TrainingWindows(train))
    module = build_pretraining_module(recipe, preprocessor.window_shape(train[0]), train[0])
    learn(
        module,
        preprocessor,
        train,
        validation,
        DiffusionObjective(NoiseSchedule("cosine", "velocity")),
        recipe,
    )
    batch = preprocessor.collate(blind(test), with_instructions=False)
    drawn = module.sample(batch, draws=50, steps=25, generator=torch.Generator().manual_seed(SEED))
    raw = preprocessor.scaler.unscale(drawn.numpy().astype(np.float64))[:, :, 4:, :, 0]
    truth = np.stack([s.truth[4:, :, 0] for s in test])
    noise = np.einsum("ij,dbhj->dbhi", root, rng.normal(size=raw.shape))
    ahead, now = np.zeros(raw.shape), np.stack([s.values[3, :, 0] for s in test])
    for h in range(4):
        now = phi * now + noise[:, :, h]
        ahead[:, :, h] = now
    usual = values[: int(0.7 * steps)]
    null = usual[rng.integers(len(usual), size=raw.shape[:3])]
    return {
        "model": float(crps(raw, truth).mean()),
        "oracle": float(crps(ahead, truth).mean()),
        "null": float(crps(null, truth).mean()),
    }


def field(name: str, values: np.ndarray, edges: Edges) -> SensorGraph:
    time = START + HOUR * np.arange(len(values), dtype=np.int64)
    places = tuple(f"p{i}" for i in range(values.shape[1]))
    return SensorGraph(
        name=name, unit="units", timezone="UTC", freq_s=HOUR, values=values[:, :, None], time=time, places=places,
        labels=places, channels=("value",), edges=edges, calendar=calendar_of(time, "UTC", freq_s=HOUR), split=PLAN,
    )  # fmt: skip


def recipe_of(
    task: dict | None, objectives: dict | None, *, graph: str = "none", steps: int
) -> PretrainRecipe:
    return PretrainRecipe.model_validate(
        {
            "id": "known-truth",
            "data": "made",
            "task": task or {"next-event": {}},
            "encoder": {"d_st": 64, "patch": 4, "layers": 2, "graph": graph, "mixer": "mlp"},
            "objectives": objectives or PretrainObjectives(likelihood={}).model_dump(exclude_none=True),
            "budget": {"steps": steps, "batch": 64, "lr": 2e-3, "evaluations": 15},
            "seed": SEED,
        }
    )


def sequence_arm(preprocessor):
    settings = EncoderSettings(d_st=32, layers=2)
    return build_arm("none", ArmSpec(preprocessor.shape, NO_EDGES, 32, 1.0, 4, settings), seed=SEED)


def learn(module, preprocessor, train, validation, objective, recipe: PretrainRecipe) -> None:
    stacked = (
        preprocessor.collate(train, with_instructions=False),
        preprocessor.collate(validation, with_instructions=False),
    )
    fit(module, *stacked, Budget(**recipe.budget.model_dump()), objective=objective, seed=SEED)


def blind(samples: list[Sample]) -> list[Sample]:
    return [sample.without_truth() for sample in samples]


TRUTHS = {
    "graph autoregression, MAE": graph_autoregression,
    "Hawkes process, nats an event": hawkes,
    "Markov chain of places, nats": markov_chain,
    "Gaussian diffusion, CRPS": gaussian_diffusion,
}


def main() -> None:
    reader = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    reader.add_argument("--json", action="store_true", help="print one JSON object a line")
    asked = reader.parse_args()
    for name, made in TRUTHS.items():
        row = {key: float(value) for key, value in made().items()}
        row["over_oracle"] = row["model"] / row["oracle"]
        if asked.json:
            print(json.dumps({"truth": name, **row}), flush=True)
        else:
            numbers = f"{row['model']:.4f} model, {row['oracle']:.4f} oracle, {row['null']:.4f} null rule"
            print(f"{name}: {numbers}; {row['over_oracle']:.3f} of the oracle (asked: {LIMIT})", flush=True)


if __name__ == "__main__":
    main()
