"""CLIP (Radford et al. 2021): frames and sentences in one embedding space, through transformers; frozen, loaded
once.
"""

import functools
import json
import re
from collections.abc import Sequence
from pathlib import Path

import huggingface_hub
import numpy as np
import torch
from huggingface_hub.errors import HfHubHTTPError, HFValidationError
from jaxtyping import Float32, UInt8
from torch.nn import functional
from transformers import AutoTokenizer, CLIPModel, PreTrainedTokenizerBase

from st2llm.devices import find_device
from st2llm.errors import ArtefactError, ConfigError
from st2llm.hub import offline

_HUB_ID = re.compile(r"[\w.-]+/[\w.-]+")
_FILES = ["*.json", "*.txt", "*.safetensors"]
_MEAN = (0.48145466, 0.4578275, 0.40821073)
_STD = (0.26862954, 0.26130258, 0.27577711)
"""Mean and deviation of CLIP's training pixels, used where its folder does not give them."""
_FRAMES_PER_PASS = 16


class ClipEncoder:
    """Embeds sentences and frames as unit vectors, whose dot product is their similarity."""

    def __init__(self, name: str, folder: Path, device: torch.device) -> None:
        self.name = name
        self.device = device
        model = CLIPModel.from_pretrained(folder, use_safetensors=True, local_files_only=True)
        self.model: CLIPModel = model.to(self.device).eval().requires_grad_(False)
        self.tokenizer: PreTrainedTokenizerBase = AutoTokenizer.from_pretrained(folder, local_files_only=True)
        self.side = int(model.config.vision_config.image_size)
        config_file = folder / "preprocessor_config.json"
        settings = json.loads(config_file.read_text(encoding="utf-8")) if config_file.is_file() else {}
        self.mean = torch.tensor(settings.get("image_mean", _MEAN)).view(1, 3, 1, 1)
        self.std = torch.tensor(settings.get("image_std", _STD)).view(1, 3, 1, 1)

    @property
    def width(self) -> int:
        """The length of a vector."""
        return int(self.model.config.projection_dim)

    def embed_texts(self, texts: Sequence[str]) -> Float32[np.ndarray, "text d"]:
        """A vector for each text; texts beyond the model's length are truncated."""
        if not texts:
            return np.zeros((0, self.width), dtype=np.float32)
        max_tokens = int(self.model.config.text_config.max_position_embeddings)
        tokens = self.tokenizer(
            list(texts), padding=True, truncation=True, max_length=max_tokens, return_tensors="pt"
        )
        inputs = {key: tokens[key].to(self.device) for key in ("input_ids", "attention_mask")}
        with torch.inference_mode():
            pooled = self.model.text_model(**inputs).pooler_output
            return _normalise(self.model.text_projection(pooled))

    def embed_frames(self, frames: UInt8[np.ndarray, "time row col 3"]) -> Float32[np.ndarray, "time d"]:
        """A vector for each frame; frames are resized by their shorter side and centre-cropped to the model's
        size.
        """
        vectors = [np.zeros((0, self.width), dtype=np.float32)]
        for start in range(0, len(frames), _FRAMES_PER_PASS):
            pixels = self._preprocess(frames[start : start + _FRAMES_PER_PASS]).to(self.device)
            with torch.inference_mode():
                pooled = self.model.vision_model(pixel_values=pixels).pooler_output
                vectors.append(_normalise(self.model.visual_projection(pooled)))
        return np.concatenate(vectors)

    def _preprocess(self, frames: UInt8[np.ndarray, "time row col 3"]) -> torch.Tensor:
        pixels = torch.from_numpy(np.ascontiguousarray(frames)).permute(0, 3, 1, 2).float() / 255
        rows, cols = pixels.shape[-2:]
        scale = self.side / min(rows, cols)
        shape = (max(self.side, round(rows * scale)), max(self.side, round(cols * scale)))
        large = functional.interpolate(
            pixels, size=shape, mode="bicubic", antialias=True, align_corners=False
        )
        top, left = (shape[0] - self.side) // 2, (shape[1] - self.side) // 2
        middle = large[:, :, top : top + self.side, left : left + self.side].clamp(0, 1)
        return (middle - self.mean) / self.std


@functools.lru_cache(maxsize=2)
def load(name: str, device: str | None = None) -> ClipEncoder:
    """The CLIP model of a folder or a Hugging Face id (org/name), loaded once per process.

    device: a torch device name; by default the accelerator, if there is one.

    Raises ConfigError for an invalid name, ArtefactError where the model cannot be obtained or is not a CLIP.
    """
    path = Path(name).expanduser()
    if not path.is_dir() and not _HUB_ID.fullmatch(name):
        raise ConfigError(
            f"{name!r} is not a CLIP model. Give a folder with config.json, a tokenizer and safetensors, or a "
            f"Hugging Face id such as openai/clip-vit-base-patch32."
        )
    try:
        folder = path if path.is_dir() else Path(
            huggingface_hub.snapshot_download(name, allow_patterns=_FILES, local_files_only=offline())
        )  # fmt: skip
        return ClipEncoder(name, folder, find_device(device))
    except (OSError, ValueError, KeyError, HfHubHTTPError, HFValidationError) as error:
        reason = " ".join(str(error).split())[:200]
        raise ArtefactError(
            f"The CLIP {name!r} cannot be loaded: {reason}. A folder needs config.json, a tokenizer and "
            f"model.safetensors; a Hugging Face id needs the network, or its files in the cache."
        ) from error


def _normalise(rows: torch.Tensor) -> Float32[np.ndarray, "row d"]:
    return functional.normalize(rows.float(), dim=-1).cpu().numpy()
