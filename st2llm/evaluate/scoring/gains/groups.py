"""The gain of the best predictor of one group over the best of another, each chosen on validation."""

from st2llm.evaluate.run_folder.record import Gain
from st2llm.evaluate.scoring.arms import FinishedArms
from st2llm.evaluate.scoring.gains.choice import choice_optimism, widened
from st2llm.evaluate.scoring.gains.gain import Scores
from st2llm.evaluate.scoring.gains.validation import best_on_validation


def group_gain(arms: FinishedArms, table: Scores) -> tuple[str, Gain] | None:
    """The predictor of `groups.of` that is best on validation, and its gain over the best one of `groups.over`.

    The interval is widened by how much both choices flatter, as that of gain_best is. None where the suite has no
    groups, or one of them has no finished predictor with a validation score.
    """
    groups = arms.suite.groups
    if groups is None:
        return None
    of, over = ([name for name in names if name in arms.predictors] for names in (groups.of, groups.over))
    chosen, reference = best_on_validation(arms, of), best_on_validation(arms, over)
    if chosen is None or reference is None:
        return None
    metric = arms.suite.primary_metric
    gain = table.gain(metric, chosen, reference)
    if gain is None:
        return None
    optimism = [choice_optimism(arms, table, names) for names in (of, over)]
    return chosen, widened(table, metric, gain, *optimism)
