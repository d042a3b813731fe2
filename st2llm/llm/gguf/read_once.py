"""transformers' reading of a GGUF file, with each part of the file read once.

transformers parses all fields of the file anew for the config, the tokenizer and the weights, gguf takes each string of
the vocabulary through numpy's slow memory maps and dequantises sixteen rows at a time: Gemma 3 with its 262,144 tokens
took minutes.
"""

import copy
import functools
import os
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any, ClassVar, Literal

import gguf
import numpy as np
from gguf import GGMLQuantizationType, GGUFReader
from transformers import modeling_gguf_pytorch_utils

ROW_GROUP = 16
"""Rows that gguf dequantises at a time."""
NUMBERS_AT_ONCE = 1 << 20
"""Numbers to dequantise at a time: enough to make the cost of a call small, and few enough to stay in the caches."""


class FastReader(GGUFReader):  # type: ignore[misc]
    """A reader whose fields are views of the file's bytes, not of numpy's memory map, which is ten times slower."""

    _bytes: memoryview | None = None
    _ordered: ClassVar[dict[tuple[type[np.generic], str], np.dtype[Any]]] = {}

    def _get(
        self,
        offset: int,
        dtype: type[np.generic],
        count: int = 1,
        override_order: Literal["I", "S", "<"] | None = None,
    ) -> np.ndarray[Any, Any]:
        if self._bytes is None:
            self._bytes = memoryview(self.data)
        order = self.byte_order if override_order is None else override_order
        if (ordered := self._ordered.get((dtype, order))) is None:
            ordered = self._ordered.setdefault((dtype, order), np.dtype(dtype).newbyteorder(order))
        return np.frombuffer(self._bytes, dtype=ordered, count=int(count), offset=int(offset))


@contextmanager
def read_once() -> Iterator[Callable[[str | os.PathLike[str]], GGUFReader]]:
    """A context in which transformers reads each GGUF file once; gives the reader of a path, which it uses too."""
    reader = functools.lru_cache(maxsize=2)(FastReader)

    def open_once(path: str | os.PathLike[str], *_: str) -> GGUFReader:
        return reader(os.fspath(path))

    with ExitStack() as replaced:
        for owner, name, value in (
            (gguf, "GGUFReader", open_once),
            (gguf, "dequantize", _dequantize_more_rows(gguf.dequantize)),
            (gguf, "get_tensor_name_map", functools.cache(gguf.get_tensor_name_map)),
            (
                modeling_gguf_pytorch_utils,
                "load_gguf_checkpoint",
                _parse_once(modeling_gguf_pytorch_utils.load_gguf_checkpoint),
            ),
        ):
            replaced.enter_context(_replacing(owner, name, value))
        yield open_once


@contextmanager
def _replacing(owner: object, name: str, value: object) -> Iterator[None]:
    before = getattr(owner, name)
    setattr(owner, name, value)
    try:
        yield
    finally:
        setattr(owner, name, before)


def _parse_once(load: Callable[..., dict[str, Any]]) -> Callable[..., dict[str, Any]]:
    """`load_gguf_checkpoint`, which parses the fields of each file once where no tensors are wanted."""
    parsed = functools.cache(load)

    def call(path: str, return_tensors: bool = False, **settings: object) -> dict[str, Any]:
        if return_tensors:
            return load(path, return_tensors=True, **settings)
        return copy.deepcopy(parsed(os.fspath(path)))

    return call


Dequantize = Callable[[np.ndarray[Any, Any], GGMLQuantizationType], np.ndarray[Any, Any]]


def _dequantize_more_rows(dequantize: Dequantize) -> Dequantize:
    """The same numbers from fewer calls: rows are joined, since the blocks of a row do not depend on each other."""

    def call(data: np.ndarray[Any, Any], quantisation: GGMLQuantizationType) -> np.ndarray[Any, Any]:
        if data.ndim < 2 or quantisation in (GGMLQuantizationType.F32, GGMLQuantizationType.F16):
            return dequantize(data, quantisation)
        block, block_bytes = gguf.GGML_QUANT_SIZES[quantisation]
        numbers = data.size // block_bytes * block
        joined = _joined_rows(
            data.size // data.shape[-1], NUMBERS_AT_ONCE * data.size // numbers // data.shape[-1]
        )
        shape = (*data.shape[:-1], data.shape[-1] // block_bytes * block)
        return dequantize(data.reshape(-1, joined * data.shape[-1]), quantisation).reshape(shape)

    return call


def _joined_rows(rows: int, at_once: int) -> int:
    """How many rows to join: a divisor of their number, so that a group of gguf's has at most `at_once` rows."""
    return max(n for n in range(1, max(1, at_once // ROW_GROUP) + 1) if rows % n == 0)
