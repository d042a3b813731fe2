"""Projection heads speak at the LLM's volume, read what they are given alone, and overfit a batch."""

import pytest
import torch

from st2llm.align.output_head import ValueHead
from st2llm.align.projection import build_down_projection, build_up_projection
from st2llm.align.prototypes import EmbeddingVocabulary, build_prototypes
from st2llm.config.model import HEADS, Projection
from st2llm.errors import ConfigError

D, D_LM, RMS = 8, 32, 0.13
EVERY = slice(None)


def vocabulary():
    table = RMS * torch.randn(400, D_LM, generator=torch.Generator().manual_seed(5))
    return EmbeddingVocabulary(table, table[:3])


def settings(head, **more):
    return Projection(head=head, tokens=5, prototypes=12, **more)


def up(head, token_rms=RMS, **more):
    torch.manual_seed(0)
    return build_up_projection(settings(head, **more), D, D_LM, token_rms=token_rms, vocabulary=vocabulary())


@pytest.mark.parametrize("head", HEADS)
@pytest.mark.parametrize("volume", [0.1, 1.0, 10.0])
def test_every_head_speaks_at_the_volume_of_the_llms_own_tokens(head, volume):
    made = up(head)
    tokens = made(volume * torch.randn(4, 3, D))
    assert tokens.shape == (4, 5 if head == "resampler" else 3, D_LM)
    rms = tokens.square().mean(dim=-1).sqrt()
    torch.testing.assert_close(rms, torch.full(rms.shape, RMS), rtol=0.02, atol=0)


@pytest.mark.parametrize("head", HEADS)
def test_tokens_are_larger_by_the_scale_and_say_the_same(head):
    z = torch.randn(4, 3, D)
    torch.testing.assert_close(up(head, token_scale=20.0)(z), 20 * up(head)(z))


@pytest.mark.parametrize("head", HEADS)
def test_every_head_refuses_another_width(head):
    with pytest.raises(TypeError, match="batch slot"):
        up(head)(torch.zeros(1, 3, D + 1))


@pytest.mark.parametrize("head", ["linear", "mlp", "reprogramming"])
def test_a_token_comes_from_its_slot_alone(head):
    made, z = up(head), torch.randn(2, 4, D)
    other = z.clone()
    other[:, 1] += 1
    moved = (made(z) - made(other)).abs().amax(dim=(0, 2))
    assert moved[1] > 1e-3
    assert moved[[0, 2, 3]].max() == 0


def test_a_resampler_makes_as_many_tokens_of_any_number_of_slots():
    made = up("resampler")
    z = torch.randn(2, 7, D)
    assert made(z).shape == made(z[:, :2]).shape == (2, 5, D_LM)
    torch.testing.assert_close(made(z), made(z[:, [6, 5, 4, 3, 2, 1, 0]]))


def test_a_resampler_hears_every_slot():
    made, z = up("resampler"), torch.randn(1, 4, D, requires_grad=True)
    made(z)[..., 0].sum().backward()
    assert (z.grad.abs().amax(dim=2) > 0).all()


@pytest.mark.parametrize("by", ["learned", "kmeans", "pca"])
def test_prototypes_are_as_many_as_asked_and_about_as_loud_as_a_token(by):
    torch.manual_seed(0)
    rows = build_prototypes(
        Projection(head="reprogramming", prototypes=12, prototype_source=by), vocabulary()
    )()
    assert rows.shape == (12, D_LM)
    loud = rows.square().mean(dim=1).sqrt()
    assert ((loud > 0.2 * RMS) & (loud < 2 * RMS)).all()


def test_principal_prototypes_are_orthogonal_and_the_first_is_the_direction_of_most_spread():
    table = 0.01 * torch.randn(400, D_LM, generator=torch.Generator().manual_seed(1))
    table[:, 3] += torch.linspace(-1, 1, 400)
    rows = build_prototypes(
        Projection(head="reprogramming", prototypes=4, prototype_source="pca"), EmbeddingVocabulary(table)
    )()
    unit = torch.nn.functional.normalize(rows, dim=1)
    torch.testing.assert_close(unit @ unit.T, torch.eye(4), rtol=0, atol=1e-4)
    assert unit[0, 3].abs() > 0.99


def test_kmeans_finds_planted_centres():
    centres = torch.eye(D_LM)[:3]
    noise = 0.01 * torch.randn(90, D_LM, generator=torch.Generator().manual_seed(2))
    table = centres.repeat_interleave(30, dim=0) + noise
    rows = build_prototypes(
        Projection(head="reprogramming", prototypes=3, prototype_source="kmeans"), EmbeddingVocabulary(table)
    )()
    assert sorted(rows.argmax(dim=1).tolist()) == [0, 1, 2]
    torch.testing.assert_close(rows[rows.argmax(dim=1).argsort()], centres, rtol=0, atol=0.02)


def test_prototypes_by_words_are_the_rows_of_these_words():
    how = Projection(head="reprogramming", prototype_source="words", prototype_words=("rise", "fall", "peak"))
    assert torch.equal(build_prototypes(how, vocabulary())(), vocabulary().word_rows)


def test_a_soft_token_of_one_prototype_does_not_depend_on_its_slot():
    """A mixture of a single row is that row, whatever asks for it."""
    torch.manual_seed(0)
    how = Projection(head="reprogramming", prototype_source="words", prototype_words=("peak",))
    only = EmbeddingVocabulary(vocabulary().table, vocabulary().table[:1])
    tokens = build_up_projection(how, D, D_LM, token_rms=RMS, vocabulary=only)(torch.randn(2, 3, D))
    torch.testing.assert_close(tokens, tokens[:1, :1].expand(2, 3, -1))


def test_more_prototypes_than_the_vocabulary_has_are_refused():
    with pytest.raises(ConfigError, match="cannot be 500 prototypes by kmeans of a vocabulary of 400 rows"):
        build_prototypes(
            Projection(head="reprogramming", prototypes=500, prototype_source="kmeans"), vocabulary()
        )


def test_no_head_hands_embeddings_on_and_stands_before_no_language_model():
    z = torch.randn(2, 3, D)
    assert torch.equal(build_up_projection(settings("none"), D, D, token_rms=RMS)(z), z)
    made = build_down_projection(settings("none"), D, D)
    assert torch.equal(made(z, z + 1, torch.zeros(2, D), slice(2, None, 3)), (z + 1)[:, 2:])
    with pytest.raises(ConfigError, match=f"passes {D} numbers a slot to a model that reads {D_LM}"):
        build_up_projection(settings("none"), D, D_LM, token_rms=RMS)


def test_reprogramming_without_a_vocabulary_is_refused():
    with pytest.raises(ConfigError, match="there is no language model"):
        build_up_projection(settings("reprogramming"), D, D_LM, token_rms=RMS)


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"prototype_source": "words"}, "give both or neither"),
        ({"words": ("a",)}, "give both or neither"),
        ({"head": "resampler", "attention_mask": "adjacency"}, "no neighbours"),
        ({"head": "lniear"}, "linear"),
    ],
)
def test_settings_that_do_not_fit_are_refused(wrong, said):
    with pytest.raises(ValueError, match=said):
        Projection(**wrong)


def down(head):
    torch.manual_seed(0)
    return build_down_projection(settings(head), D_LM, D)


@pytest.mark.parametrize("head", ["mlp", "resampler"])
def test_down_adds_the_words_to_every_slot(head):
    made = down(head)
    z, states, words = torch.randn(2, 3, D), torch.randn(2, 3, D_LM), torch.randn(2, D_LM)
    got = made(z, states, words, EVERY)
    assert got.shape == (2, 3, D)
    moved = got - made(z, states, torch.zeros(2, D_LM), EVERY)
    torch.testing.assert_close(moved, moved[:, :1].expand(-1, 3, -1))
    assert moved.abs().max() > 0.01


@pytest.mark.parametrize("head", [head for head in HEADS if head != "none"])
def test_without_the_states_of_the_backbone_no_sample_is_told_from_another(head):
    made = build_down_projection(settings(head), D_LM, D)
    z = torch.randn(3, 6, D, generator=torch.Generator().manual_seed(1))
    got = made(z, torch.zeros(3, 5 if head == "resampler" else 6, D_LM), torch.zeros(3, D_LM), EVERY)
    torch.testing.assert_close(got, got[:1].expand_as(got), rtol=0, atol=0)


def test_a_resampled_output_slot_is_told_from_another_by_its_position():
    made, states = build_down_projection(settings("resampler"), D_LM, D), torch.randn(1, 5, D_LM)
    (got,) = made(torch.zeros(1, 6, D), states, torch.zeros(1, D_LM), slice(2, 5))
    assert torch.cdist(got, got)[~torch.eye(3, dtype=torch.bool)].min() > 1e-3


@pytest.mark.parametrize("head", ["mlp", "resampler"])
def test_down_hears_states_of_any_scale_alike(head):
    made = down(head)
    z, states, words = torch.randn(2, 3, D), torch.randn(2, 3, D_LM), torch.randn(2, D_LM)
    loud = made(z, 1000 * states, 1000 * words, EVERY)
    torch.testing.assert_close(loud, made(z, states, words, EVERY), rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("head", ["mlp", "resampler"])
def test_down_says_what_is_asked_alone(head):
    made, z, states = down(head), torch.randn(2, 6, D), torch.randn(2, 6, D_LM)
    every = made(z, states, torch.zeros(2, D_LM), EVERY)
    some = made(z, states, torch.zeros(2, D_LM), slice(1, None, 2))
    torch.testing.assert_close(some, every[:, 1::2])


@pytest.mark.parametrize("head", HEADS)
def test_the_heads_overfit_one_batch(head):
    made, back = up(head), down(head)
    numbers = ValueHead(D, context=0, horizon=2, channels=1)
    parts = torch.nn.ModuleList([made, back, numbers])
    torch.manual_seed(1)
    z, want = torch.randn(4, 3, D), torch.randn(4, 2, 3, 1)
    optimiser = torch.optim.Adam(parts.parameters(), lr=1e-2)
    losses = []
    while len(losses) < 200 and not (losses and losses[-1] < 0.02 * losses[0]):
        said = back(z, made(z), torch.zeros(4, D_LM), EVERY)
        loss = (numbers.correction(said) - want).square().mean()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        losses.append(float(loss.detach()))
    assert losses[-1] < 0.02 * losses[0]
