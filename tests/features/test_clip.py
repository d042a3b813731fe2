"""CLIP on tiny weights drawn at random: a test of the mechanism, of no result."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from support import tiny_llm
from transformers import CLIPConfig, CLIPModel, PreTrainedTokenizerFast

from st2llm.errors import ArtefactError, ConfigError
from st2llm.features import clip


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    home = tmp_path_factory.mktemp("clip")
    tokens = PreTrainedTokenizerFast(
        tokenizer_object=tiny_llm.train_tokenizer("single"),
        unk_token="<unk>",
        pad_token="</s>",
        eos_token="</s>",
    )
    small = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2}
    torch.manual_seed(0)
    CLIPModel(CLIPConfig(
        text_config={**small, "vocab_size": len(tokens), "max_position_embeddings": 24, "eos_token_id": 2},
        vision_config={**small, "image_size": 32, "patch_size": 8},
        projection_dim=12,
    )).save_pretrained(home)  # fmt: skip
    tokens.save_pretrained(home)
    (home / "preprocessor_config.json").write_text(
        json.dumps({"image_mean": [0.5] * 3, "image_std": [0.5] * 3})
    )
    return home


def pictures(count: int, rows: int = 40, cols: int = 60) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (count, rows, cols, 3)).astype(np.uint8)


def test_texts_and_frames_become_vectors_of_one_space(folder):
    encoder = clip.load(str(folder))
    texts, frames = encoder.embed_texts(["12 people", "a" * 500]), encoder.embed_frames(pictures(3))
    assert texts.shape == (2, 12) and frames.shape == (3, 12) and encoder.width == 12
    for rows in (texts, frames):
        assert rows.dtype == np.float32 and np.allclose(np.linalg.norm(rows, axis=1), 1, atol=1e-5)
    assert encoder.embed_texts([]).shape == encoder.embed_frames(pictures(0)).shape == (0, 12)


def test_vectors_are_those_of_transformers_own_model(folder):
    encoder = clip.load(str(folder))
    tokens = encoder.tokenizer(["12 people"], return_tensors="pt")
    pixels = torch.from_numpy(pictures(1, 32, 32)).permute(0, 3, 1, 2).float() / 127.5 - 1
    with torch.inference_mode():
        whole = encoder.model(
            input_ids=tokens["input_ids"], attention_mask=tokens["attention_mask"], pixel_values=pixels
        )
    assert np.allclose(encoder.embed_texts(["12 people"]), whole.text_embeds.numpy(), atol=1e-5)
    assert np.allclose(encoder.embed_frames(pictures(1, 32, 32)), whole.image_embeds.numpy(), atol=1e-4)


def test_a_text_does_not_depend_on_those_beside_it(folder):
    encoder = clip.load(str(folder))
    assert np.allclose(
        encoder.embed_texts(["7", "a long line of words"])[0], encoder.embed_texts(["7"])[0], atol=1e-5
    )


def test_the_middle_of_a_wide_frame_counts(folder):
    encoder, wide = clip.load(str(folder)), pictures(1, 32, 64)
    assert np.allclose(encoder.embed_frames(wide), encoder.embed_frames(wide[:, :, 16:48]), atol=1e-4)


def test_it_is_loaded_once_and_frozen(folder):
    encoder = clip.load(str(folder))
    assert clip.load(str(folder)) is encoder
    assert not encoder.model.training and not any(p.requires_grad for p in encoder.model.parameters())


def test_a_name_that_is_no_clip_is_refused_and_so_is_an_empty_folder(tmp_path):
    with pytest.raises(ConfigError, match="is not a CLIP"):
        clip.load("clip")
    with pytest.raises(ArtefactError, match="cannot be loaded"):
        clip.load(str(tmp_path))
