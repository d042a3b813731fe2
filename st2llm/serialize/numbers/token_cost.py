"""What a value costs in a tokenizer."""

import numpy as np
from jaxtyping import Float64

from st2llm.serialize.numbers.notation import NumberText
from st2llm.types import Tokenizer


def tokens_per_value(
    numbers: NumberText, values: Float64[np.ndarray, "batch time"], tokenizer: Tokenizer
) -> float:
    """Mean tokens of a value and of what parts it from the next, over lines of so many values."""
    tokens = sum(len(tokenizer.encode(numbers.write(row))) for row in values)
    return tokens / values.size
