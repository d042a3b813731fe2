"""`st2llm compare --dry-run`: checks a comparison as a run would, and estimates its cost from measured speeds."""

from dataclasses import dataclass
from pathlib import Path

from st2llm.evaluate.planning.estimate import ArmEstimate, estimate_task, summary
from st2llm.evaluate.planning.speed import measure
from st2llm.evaluate.run import plan
from st2llm.evaluate.run.compare import prepare


@dataclass(frozen=True)
class ComparisonEstimate:
    """The arms of a comparison with their expected cost. controls: seconds of the planted controls."""

    arms: tuple[ArmEstimate, ...]
    controls: float

    @property
    def summary(self) -> str:
        return summary(self.arms, controls=self.controls)


def dry_run(
    suite: str | Path, overrides: plan.Overrides, *, out: Path | None = None, resume: bool = False
) -> ComparisonEstimate:
    """Checks the suite, its data, templates, checkpoints, language model and folders; raises as `compare` does.

    A training step or an answer of each predictor is measured (`speed.measure`). Nothing is written.
    """
    planned = plan.make(suite, overrides, out=out, resume=resume)
    arms: list[ArmEstimate] = []
    paces: dict[str, float] = {}
    for each in planned.suites:
        prepared = prepare(each)
        for study, prompts in zip(prepared.studies, prepared.first_prompts, strict=True):
            found = estimate_task(study.inputs, prompts, measure(study))
            arms += found
            paces |= {plan.speed_group(each.id, arm.predictor): arm.pace or 1.0 for arm in found}
    planned_controls = [arm for arm in plan.planned_arms(planned) if " control, " in arm.label]
    controls = sum(arm.work * paces.get(arm.group, 1.0) for arm in planned_controls)
    return ComparisonEstimate(tuple(arms), controls)
