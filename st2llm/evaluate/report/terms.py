"""Terms of a run as a report writes them: what is imputed, how draws are combined, what a block is."""

from st2llm.evaluate.report.formats import IMPUTATION_NAMES
from st2llm.evaluate.run_folder.results import RunResults


def imputation_name(results: RunResults) -> str:
    """The rule that is imputed for unreadable answers."""
    return IMPUTATION_NAMES.get(str(results.run["suite"].get("stand_in")), "last value")


def draw_rule(results: RunResults) -> str:
    """How several draws become one prediction."""
    if results.predicts_labels:
        return "the label that most readable draws rank first"
    return "the median of the readable draws"


def block_name(results: RunResults) -> str:
    """The blocks that are resampled, in the plural."""
    block = ((results.run.get("config") or {}).get("bootstrap") or {}).get("block") or "day"
    return {"sample": "windows"}.get(str(block), f"{block}s")
