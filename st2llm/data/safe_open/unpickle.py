"""Reads pickles of numpy arrays, lists, dicts, strings and numbers; nothing is imported, and no code of theirs is run.

A pickle is a program. Its opcodes are checked first, and its global names resolve to the stand-ins below, which hold
shape and bytes until these have been checked. Numpy only receives bytes that fit their shape.
"""

import io
import pickle
import pickletools
from collections.abc import Callable
from pathlib import Path
from typing import IO, Any

import numpy as np

from st2llm.data.safe_open.archive import unpacked_stream
from st2llm.data.safe_open.limits import MAX_BYTES, check_claimed_size, first_line
from st2llm.errors import DataError

MAX_OPCODES = 20_000_000
MAX_DEPTH = 32
_BLOCK_BYTES = 1 << 20

_CODE_OPCODES = {
    "EXT1",
    "EXT2",
    "EXT4",
    "INST",
    "OBJ",
    "PERSID",
    "BINPERSID",
    "NEWOBJ",
    "NEWOBJ_EX",
    "NEXT_BUFFER",
}
"""Opcodes that pickles of arrays and lists do not contain."""


def numeric_pickle(path: Path, *, limit: int = MAX_BYTES) -> Any:
    """The content of a pickle (gzipped or not, any protocol, also of Python 2): arrays, lists, dicts, strings, numbers.

    Raises DataError for other content, before anything is built, and for a damaged or oversized file.
    """
    with unpacked_stream(path, limit=limit) as stream:
        data = _read(stream, limit)
    check_claimed_size(len(data), path.stat().st_size, path.name, limit=limit)
    try:
        _check_opcodes(data, path)
        return _to_values(_RestrictedUnpickler(io.BytesIO(data), encoding="latin1").load(), {}, 0)
    except DataError:
        raise
    except Exception as error:  # a forged or damaged file may raise any error
        raise DataError(
            f"{path} cannot be read as a pickle of numbers: {first_line(error)}. Save its arrays with numpy.savez."
        ) from error


def _read(stream: IO[bytes], limit: int) -> bytes:
    """At most one byte more than `limit`, block by block: read(limit) takes all the memory at once."""
    blocks, size = [], 0
    while size <= limit and (block := stream.read(min(_BLOCK_BYTES, limit + 1 - size))):
        blocks.append(block)
        size += len(block)
    return b"".join(blocks)


def _check_opcodes(data: bytes, path: Path) -> None:
    for count, (opcode, argument, _) in enumerate(pickletools.genops(data)):
        if opcode.name in _CODE_OPCODES:
            raise DataError(
                f"{path} is not opened: it holds code (the opcode {opcode.name}). Save its arrays with numpy.savez."
            )
        if opcode.name == "GLOBAL" and tuple(str(argument).split(" ", 1)) not in _ALLOWED_GLOBALS:
            raise DataError(_refusal(path, str(argument).replace(" ", ".")))
        # The memo is an array that grows to any index that is used.
        if opcode.name in ("PUT", "BINPUT", "LONG_BINPUT") and int(argument or 0) > count + len(data):
            raise DataError(
                f"{path} is damaged: it refers to object {argument}, which it does not hold. Download it again."
            )
        if count > MAX_OPCODES:
            raise DataError(f"{path} holds over {MAX_OPCODES:,} objects. Save its arrays with numpy.savez.")


def _refusal(path: Path | str, name: str) -> str:
    return (
        f"{path} is not opened: it holds a pickle of {name[:80]}, and only numpy arrays, lists, dicts, strings "
        "and numbers are read. Save its arrays with numpy.savez."
    )


class _DtypeStandIn:
    """Stands for a numpy dtype; holds its code and byte order."""

    def __init__(self, code: str = "", *_: Any) -> None:
        self.code, self.order = str(code), "|"

    def __setstate__(self, state: Any) -> None:
        if not isinstance(state, tuple) or len(state) < 2 or any(part is not None for part in state[2:5]):
            raise ValueError("an array of records was found, but plain numbers are expected")
        self.order = str(state[1])

    @property
    def dtype(self) -> np.dtype:
        if (
            not self.code
            or self.code[0] not in "?bBiufSU"
            or not self.code[1:].isdigit()
            or self.order not in "<>|="
        ):
            raise ValueError(f"an array of {self.code!r} was found, but plain numbers are expected")
        return np.dtype(self.order.replace("|", "=") + self.code)


class _ArrayStandIn:
    """Stands for a numpy array until its bytes are checked against its shape."""

    def __init__(self) -> None:
        self.state: tuple[Any, ...] | None = None

    def __setstate__(self, state: Any) -> None:
        self.state = state

    def array(self) -> np.ndarray:
        if not isinstance(self.state, tuple) or len(self.state) != 5:
            raise ValueError("an array without content was found")
        _, shape, kind, fortran, raw = self.state
        return _build_array(raw, kind, shape, "F" if fortran else "C")


def _build_array(raw: Any, kind: Any, shape: Any, order: str) -> np.ndarray:
    if isinstance(raw, str):  # the bytes of Python 2
        raw = raw.encode("latin1")
    if (
        not isinstance(kind, _DtypeStandIn)
        or not isinstance(raw, bytes | bytearray)
        or not isinstance(shape, tuple)
    ):
        raise ValueError("an array of objects was found, but plain numbers are expected")
    if not all(type(n) is int and n >= 0 for n in shape) or len(shape) > 8:
        raise ValueError(f"an array of the impossible shape {shape} was found")
    count = int(np.prod([int(n) for n in shape], dtype=object)) if shape else 1
    if count * kind.dtype.itemsize != len(raw):
        raise ValueError(f"an array claims shape {shape} of {kind.dtype}, but it has {len(raw):,} bytes")
    return np.frombuffer(bytes(raw), dtype=kind.dtype).reshape(shape, order="F" if order == "F" else "C")


class _ScalarStandIn:
    """Stands for a numpy scalar."""

    def __init__(self, kind: Any = None, raw: Any = b"") -> None:
        self.kind, self.raw = kind, raw

    def array(self) -> Any:
        return _build_array(self.raw, self.kind, (), "C")[()]


class _BufferStandIn:
    """Stands for an array in pickle protocol 5."""

    def __init__(self, raw: Any = b"", kind: Any = None, shape: Any = (), order: Any = "C") -> None:
        self.parts = raw, kind, shape, str(order)

    def array(self) -> np.ndarray:
        return _build_array(*self.parts)


def _new_array(*_: Any) -> _ArrayStandIn:
    return _ArrayStandIn()


def _encode_latin1(text: Any = "", encoding: Any = "latin1") -> bytes:
    """Bytes as Python 3 pickles them for Python 2."""
    if not isinstance(text, str) or encoding not in ("latin1", "latin-1"):
        raise ValueError("a call of _codecs.encode was found")
    return text.encode("latin1")


def _empty_bytes() -> bytes:
    """Empty bytes as Python 3 pickles them for Python 2."""
    return b""


class _NdarrayStandIn:
    """Stands for the class numpy.ndarray, which pickles name but which is never instantiated."""


_NUMPY_CORE_MODULES = ("numpy.core", "numpy._core")
_ALLOWED_GLOBALS: dict[tuple[str, str], Any] = {
    ("numpy", "ndarray"): _NdarrayStandIn,
    ("numpy", "dtype"): _DtypeStandIn,
    ("_codecs", "encode"): _encode_latin1,
    ("__builtin__", "bytes"): _empty_bytes,
    ("collections", "OrderedDict"): dict,
    **{
        (f"{core}.{part}", "_reconstruct"): _new_array
        for core in _NUMPY_CORE_MODULES
        for part in ("multiarray", "_multiarray_umath")
    },
    **{
        (f"{core}.{part}", "scalar"): _ScalarStandIn
        for core in _NUMPY_CORE_MODULES
        for part in ("multiarray", "_multiarray_umath")
    },
    **{(f"{core}.numeric", "_frombuffer"): _BufferStandIn for core in _NUMPY_CORE_MODULES},
}


class _CallableOnly:
    """A global name of a pickle. It can be called; every other use raises."""

    __slots__ = ("_make",)

    def __init__(self, make: Callable[..., Any]) -> None:
        self._make = make

    def __call__(self, *arguments: Any) -> Any:
        return self._make(*arguments)

    def __setstate__(self, state: Any) -> None:
        raise ValueError("a global name is given a state")


class _RestrictedUnpickler(pickle.Unpickler):
    """The standard unpickler, in which every global name resolves to a stand-in."""

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) not in _ALLOWED_GLOBALS:
            raise DataError(_refusal("The pickle", f"{module}.{name}"))
        return _CallableOnly(_ALLOWED_GLOBALS[module, name])


def _to_values(item: Any, done: dict[int, Any], depth: int) -> Any:
    """The same with arrays in place of their stand-ins; shared objects are built once."""
    if depth > MAX_DEPTH:
        raise ValueError(f"lists are nested more than {MAX_DEPTH} deep, or hold themselves")
    if isinstance(item, str | bytes | int | float | complex | None):
        return item
    if id(item) in done:
        return done[id(item)]
    if isinstance(item, _ArrayStandIn | _ScalarStandIn | _BufferStandIn):
        value: Any = item.array()
    elif isinstance(item, dict):
        value = {_to_values(k, done, depth + 1): _to_values(v, done, depth + 1) for k, v in item.items()}
    elif isinstance(item, list | tuple):
        value = type(item)(_to_values(element, done, depth + 1) for element in item)
    else:
        raise DataError(_refusal("The pickle", type(item).__name__.strip("_")))
    done[id(item)] = value
    return value
