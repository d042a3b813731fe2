"""`st2llm compare --dry-run`: checks a comparison as a run would, and estimates its cost, without training."""

from dataclasses import dataclass
from pathlib import Path

from st2llm.evaluate.planning.estimate import ArmEstimate, estimate_task, summary
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
    """Checks the suite, its data, templates, checkpoints, language model and folders; raises as `compare` does."""
    planned = plan.make(suite, overrides, out=out, resume=resume)
    arms: list[ArmEstimate] = []
    for each in planned.suites:
        prepared = prepare(each)
        for study, prompts in zip(prepared.studies, prepared.first_prompts, strict=True):
            arms += estimate_task(study.inputs, prompts)
    controls = sum(arm.work for arm in plan.planned_arms(planned) if " control, " in arm.label)
    return ComparisonEstimate(tuple(arms), controls)
