import gzip
import io
import os
import pickle
import pickletools
from collections import OrderedDict
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from st2llm.data import safe_open
from st2llm.errors import DataError

HONEST = [["a", "b"], {"a": 0, "b": 1}, np.arange(4.0).reshape(2, 2)]


class Bomb:
    """Makes a folder where it is unpickled."""

    def __init__(self, target: Path) -> None:
        self.target = str(target)

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (self.target,)


def _same(first: Any, second: Any) -> bool:
    if isinstance(first, np.ndarray):
        return (
            isinstance(second, np.ndarray) and first.dtype == second.dtype and np.array_equal(first, second)
        )
    if isinstance(first, dict):
        return list(first) == list(second) and all(_same(first[k], second[k]) for k in first)
    if isinstance(first, list | tuple):
        return type(first) is type(second) and len(first) == len(second) and all(map(_same, first, second))
    return bool(first == second)


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
@pytest.mark.parametrize(
    "content",
    [
        HONEST,
        np.asfortranarray(np.arange(6, dtype=np.float32).reshape(2, 3)),
        np.array([], dtype=np.int64),
        np.arange(3, dtype=">i4"),
        np.array(["x", "yz"]),
        (np.float64(1.5), np.int32(7), "word", None, True, 2**70, 1.5),
        {"deep": [[[(1, 2)]]]},
        OrderedDict(a=1),
    ],
    ids=str,
)
def test_arrays_lists_and_words_come_back_whatever_the_protocol(
    tmp_path: Path, protocol: int, content: Any
) -> None:
    (tmp_path / "a.pkl").write_bytes(pickle.dumps(content, protocol))
    assert _same(content, safe_open.numeric_pickle(tmp_path / "a.pkl"))


def test_a_pickle_of_python_2_comes_back(tmp_path: Path) -> None:
    # What Python 2.7 with numpy 1.x wrote for np.array([1.5, 2.5]): the bytes are a str there.
    head = b"\x80\x02cnumpy.core.multiarray\n_reconstruct\nq\x00cnumpy\nndarray\nq\x01"
    head += b"K\x00\x85q\x02U\x01bq\x03\x87q\x04Rq\x05"
    state = b"(K\x01K\x02\x85q\x06cnumpy\ndtype\nq\x07U\x02f8q\x08K\x00K\x01\x87q\tRq\n"
    state += b"(K\x03U\x01<q\x0bNNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tq\x0cb\x89"
    raw = np.array([1.5, 2.5]).tobytes()
    (tmp_path / "a.pkl").write_bytes(head + state + b"U" + bytes([len(raw)]) + raw + b"q\rtq\x0eb.")
    np.testing.assert_array_equal(safe_open.numeric_pickle(tmp_path / "a.pkl"), [1.5, 2.5])


def test_a_gzipped_pickle_comes_back(tmp_path: Path) -> None:
    (tmp_path / "a.pkl").write_bytes(gzip.compress(pickle.dumps(HONEST)))
    assert _same(HONEST, safe_open.numeric_pickle(tmp_path / "a.pkl"))


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_a_payload_is_refused_by_its_name_and_not_run(tmp_path: Path, protocol: int) -> None:
    (tmp_path / "a.pkl").write_bytes(pickle.dumps([HONEST, Bomb(tmp_path / "ran")], protocol))
    with pytest.raises(DataError, match=r"a pickle of (posix|nt|os)\.mkdir"):
        safe_open.numeric_pickle(tmp_path / "a.pkl")
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize(
    "content", [np.array([{}], dtype=object), {1, 2}, Path("x"), np.datetime64("2020"), slice(1)], ids=repr
)
def test_what_is_no_number_list_or_word_is_refused(tmp_path: Path, content: Any) -> None:
    (tmp_path / "a.pkl").write_bytes(pickle.dumps(content))
    with pytest.raises(DataError, match="numpy.savez"):
        safe_open.numeric_pickle(tmp_path / "a.pkl")


def test_a_call_of_eval_through_another_object_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a.pkl").write_bytes(b"\x80\x04\x8c\x08builtins\x8c\x04eval\x93\x8c\x051 + 1\x85R.")
    with pytest.raises(DataError, match="a pickle of builtins.eval"):
        safe_open.numeric_pickle(tmp_path / "a.pkl")


@pytest.mark.parametrize(
    "data",
    [
        b"\x80\x02]r\xff\xff\xff\xff.",  # an entry of the memo that would take 64 GiB
        b"\x80\x04\x8e" + (40 * 2**30).to_bytes(8, "little") + b"x.",  # 40 GiB of bytes that are not there
        b"\x80\x02cnumpy\ndtype\n}X\x04\x00\x00\x00codeX\x02\x00\x00\x00f8sb.",  # content for a name
        b"",
        b"not a pickle",
        pickle.dumps(HONEST)[:-20],
        b"(" * 100_000 + b"t" * 100_000 + b".",
    ],
    ids=["memo", "bytes", "build", "empty", "text", "truncated", "deep"],
)
def test_a_forged_pickle_is_one_clear_error(tmp_path: Path, data: bytes) -> None:
    (tmp_path / "a.pkl").write_bytes(data)
    with pytest.raises(DataError, match=r"a\.pkl"):
        safe_open.numeric_pickle(tmp_path / "a.pkl")


def test_an_array_that_claims_more_than_its_bytes_is_refused_before_memory_is_taken(tmp_path: Path) -> None:
    honest = pickle.dumps(np.zeros((3, 5)), 2)
    shape = pickletools.optimize(honest).replace(b"K\x03K\x05\x86", b"J\xff\xff\xff\x7fJ\xff\xff\xff\x7f\x86")
    assert len(shape) != len(pickletools.optimize(honest))
    (tmp_path / "a.pkl").write_bytes(shape)
    with pytest.raises(DataError, match="claims shape"):
        safe_open.numeric_pickle(tmp_path / "a.pkl")


def test_a_list_that_holds_itself_is_refused(tmp_path: Path) -> None:
    ring: list[Any] = []
    ring.append(ring)
    (tmp_path / "a.pkl").write_bytes(pickle.dumps(ring))
    with pytest.raises(DataError, match="hold themselves"):
        safe_open.numeric_pickle(tmp_path / "a.pkl")


def test_a_list_that_doubles_thirty_times_is_built_once(tmp_path: Path) -> None:
    laughs: list[Any] = ["ha"]
    for _ in range(30):
        laughs = [laughs, laughs]
    (tmp_path / "a.pkl").write_bytes(pickle.dumps(laughs))
    back = safe_open.numeric_pickle(tmp_path / "a.pkl")
    assert back[0] is back[1]


@settings(deadline=None, max_examples=300, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data(), protocol=st.integers(0, 5))
def test_mutated_bytes_come_back_as_data_or_as_a_data_error(
    tmp_path: Path, data: st.DataObject, protocol: int
) -> None:
    whole = bytearray(
        pickle.dumps([HONEST, Bomb(tmp_path / "ran")] if data.draw(st.booleans()) else HONEST, protocol)
    )
    for _ in range(data.draw(st.integers(1, 6))):
        whole[data.draw(st.integers(0, len(whole) - 1))] = data.draw(st.integers(0, 255))
    cut = data.draw(st.integers(0, len(whole)))
    (tmp_path / "a.pkl").write_bytes(bytes(whole[: cut if data.draw(st.booleans()) else None]))
    try:
        safe_open.numeric_pickle(tmp_path / "a.pkl")
    except DataError as error:
        assert str(error)
    assert not (tmp_path / "ran").exists()


def test_nothing_of_the_standard_unpickler_is_reached_by_a_class(tmp_path: Path) -> None:
    stream = io.BytesIO()
    pickle.Pickler(stream, 4).dump(Bomb)
    (tmp_path / "a.pkl").write_bytes(stream.getvalue())
    with pytest.raises(DataError, match="Bomb"):
        safe_open.numeric_pickle(tmp_path / "a.pkl")
