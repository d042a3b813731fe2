"""The fast reading of a GGUF gives what the plain one gives, and leaves the libraries as they were."""

import gguf
import numpy as np
import pytest
from gguf import GGMLQuantizationType, GGUFReader
from support import gguf_file
from transformers import modeling_gguf_pytorch_utils

from st2llm.llm.gguf.read_once import FastReader, read_once

PACKED = [
    GGMLQuantizationType[name] for name in ("Q4_0", "Q4_1", "Q5_0", "Q8_0", "Q4_K", "Q5_K", "Q6_K", "BF16")
]


def test_the_fast_reader_gives_the_same_fields_and_tensors(tiny, tmp_path) -> None:
    path = gguf_file.write(tiny(), tmp_path / "tiny.gguf")
    plain, fast = GGUFReader(path), FastReader(path)
    assert list(fast.fields) == list(plain.fields)
    assert all(fast.fields[name].contents() == plain.fields[name].contents() for name in plain.fields)
    for a, b in zip(fast.tensors, plain.tensors, strict=True):
        assert (a.name, a.tensor_type, a.data_offset) == (b.name, b.tensor_type, b.data_offset)
        np.testing.assert_array_equal(a.data, b.data)


@pytest.mark.parametrize("quantisation", PACKED)
@pytest.mark.parametrize("rows", [1, 7, 96])
def test_joined_rows_are_dequantised_to_the_same_numbers(
    quantisation: GGMLQuantizationType, rows: int
) -> None:
    _, block_bytes = gguf.GGML_QUANT_SIZES[quantisation]
    width = 2 * block_bytes * (128 if quantisation == GGMLQuantizationType.BF16 else 1)
    data = np.random.default_rng(rows).integers(0, 60, (rows, width), dtype=np.uint8)
    expected = gguf.dequantize(data, quantisation)
    with read_once():
        np.testing.assert_array_equal(gguf.dequantize(data, quantisation), expected)


def test_a_file_is_parsed_once_and_the_libraries_are_left_as_they_were(tiny, tmp_path, monkeypatch) -> None:
    path = gguf_file.write(tiny(), tmp_path / "tiny.gguf")
    before = (gguf.GGUFReader, gguf.dequantize, gguf.get_tensor_name_map)
    loads: list[str] = []
    original = modeling_gguf_pytorch_utils.load_gguf_checkpoint
    monkeypatch.setattr(
        modeling_gguf_pytorch_utils,
        "load_gguf_checkpoint",
        lambda given: loads.append(given) or original(given),
    )
    with read_once() as reader_of:
        assert reader_of(path) is gguf.GGUFReader(str(path))
        first = modeling_gguf_pytorch_utils.load_gguf_checkpoint(path)
        first["config"].clear()
        assert modeling_gguf_pytorch_utils.load_gguf_checkpoint(str(path))["config"]
    assert loads == [str(path)]
    assert (gguf.GGUFReader, gguf.dequantize, gguf.get_tensor_name_map) == before
