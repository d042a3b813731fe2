"""The number of tokens of a written value."""

import numpy as np
from jaxtyping import Float64

from st2llm.serialize.numbers.notation import NumberText
from st2llm.types import Tokenizer


def tokens_per_value(
    numbers: NumberText, values: Float64[np.ndarray, "batch time"], tokenizer: Tokenizer
) -> float:
    """Mean number of tokens of a value with its separator, over lines of values."""
    tokens = sum(len(tokenizer.encode(numbers.write(row))) for row in values)
    return tokens / values.size
