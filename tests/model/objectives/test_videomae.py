"""VideoMAE reads the visible tubelets alone, and puts what it predicts where it belongs."""

import pytest
import torch
from torch import nn

from st2llm.encode.field import FieldShape
from st2llm.encode.field_batch import FieldBatch
from st2llm.errors import ConfigError
from st2llm.model.objectives.masked import MaskedReconstruction
from st2llm.model.objectives.videomae import VideoMae, VideoMaeSizes
from st2llm.types import NO_EDGES

REGIONS, PIXELS, FRAMES = 20, 9, 6


def model(frames=FRAMES):
    shape = FieldShape(frames, frames, REGIONS, PIXELS, 1, amid=True)
    return VideoMae(shape, VideoMaeSizes(width=16, layers=2, decoder_width=8), seed=0)


def clips(count=5):
    values = torch.randn(count, FRAMES, REGIONS, PIXELS, generator=torch.Generator().manual_seed(0))
    known, nothing = torch.ones(values.shape, dtype=torch.bool), torch.zeros(values.shape)
    none = torch.zeros(count, 0)
    return FieldBatch(
        values, known, torch.zeros(count, FRAMES, 4, dtype=torch.int64), nothing, nothing, ~known,
        torch.zeros(count, 1, dtype=torch.int64), none, torch.full((count,), -1), ("",) * count,
    )  # fmt: skip


def masked(ratio=0.9):
    objective = MaskedReconstruction(NO_EDGES, policies=("tube",), ratio=ratio, squared=True)
    return objective.draw(clips(), torch.Generator().manual_seed(1))


def moved(arm):
    """The model with weights that no longer predict 0."""
    nn.init.normal_(arm.leave.weight, generator=torch.Generator().manual_seed(2))
    return arm


def test_nine_in_ten_regions_are_hidden_in_all_frames_and_the_encoder_gets_the_tokens_of_the_others():
    arm, batch = model(), masked()
    assert (batch.valid.all(dim=1) == batch.valid.any(dim=1)).all()
    assert batch.valid[:, 0, :, 0].sum(dim=1).tolist() == [18] * 5
    read = []
    arm.encoder.register_forward_hook(lambda _, given, __: read.append(given[0].shape))
    arm(batch)
    assert read == [(5, 2 * FRAMES // 2, 16)]


def test_hidden_pixels_change_nothing_and_visible_ones_do():
    arm, batch = moved(model()), masked()
    other = torch.where(batch.visible, batch.values, 7.0)
    torch.testing.assert_close(arm(batch), arm(batch.mask_out(~batch.visible)))
    torch.testing.assert_close(arm(batch), arm(FieldBatch(**{**vars(batch), "values": other})))
    changed = torch.where(batch.visible, 7.0, batch.values)
    assert not torch.allclose(arm(batch), arm(FieldBatch(**{**vars(batch), "values": changed})))


def test_a_window_is_read_as_it_is_alone_beside_one_with_more_visible_tokens():
    arm, few, many = moved(model()), masked(0.9), masked(0.5)
    mixed = FieldBatch(
        **{k: v if k == "prompts" else torch.cat([v[:2], vars(many)[k][2:]]) for k, v in vars(few).items()}
    )
    torch.testing.assert_close(arm(mixed)[:2], arm(few)[:2], atol=1e-5, rtol=1e-4)


def test_each_predicted_pixel_is_at_its_frame_region_and_place_in_the_region():
    arm, batch = model(), masked()
    arm.decoder = nn.Identity()
    nn.init.zeros_(arm.hidden)
    nn.init.zeros_(arm.decoder_position)
    nn.init.zeros_(arm.bridge.weight)
    nn.init.zeros_(arm.bridge.bias)
    with torch.no_grad():
        arm.decoder_position[:, 0] = 100 * torch.arange(FRAMES // 2 * REGIONS)
        arm.leave.weight[:, 0] = 1.0
        arm.leave.bias.copy_(torch.arange(2 * PIXELS))
    frame, region, pixel = torch.meshgrid(*map(torch.arange, (FRAMES, REGIONS, PIXELS)), indexing="ij")
    expected = 100 * (frame // 2 * REGIONS + region) + frame % 2 * PIXELS + pixel
    torch.testing.assert_close(arm(batch)[0], expected.float())
    tokens = arm._tokens(batch.values)
    torch.testing.assert_close(tokens[0, 1 * REGIONS + 3], batch.values[0, 2:4, 3].flatten())


def test_frames_that_do_not_fill_tokens_are_refused():
    with pytest.raises(ConfigError, match="window of 5 frames cannot be cut into tokens of 2"):
        model(frames=5)
