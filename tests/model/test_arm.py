"""Arms of one comparison differ in their backbone alone, start as their base forecast, and learn."""

from dataclasses import replace

import pytest
import torch
from support import fields
from support.arms import small_blueprint as blueprint

from st2llm.config.model import BACKBONES, FROZEN, Adaptation, Projection
from st2llm.encode.field import FieldShape
from st2llm.encode.field_batch import FieldBatch, fit_note_vocabulary, stack_fields
from st2llm.encode.point_batch import PointBatch
from st2llm.encode.scaler import fit_scaler
from st2llm.encode.sequence import SequenceShape
from st2llm.errors import ConfigError
from st2llm.llm import load_llm
from st2llm.model.arm import (
    Arm,
    ArmSpec,
    EncoderSettings,
    EncoderWithHead,
    build_arm,
    build_encoder,
    state_sha256,
)
from st2llm.model.backbone import trained_parameter_count
from st2llm.types import TrainingWindows

HISTORY, HORIZON = 12, 3
LORA = Adaptation(method="lora", rank=16, target_modules=("q_proj", "v_proj"))
SHARED = ("encoder", "up", "down", "head")


def batch_of(count=4) -> FieldBatch:
    values = fields.series(30)
    values[[4, 13], [0, 1]] = float("nan")
    given = fields.windows(values, history=HISTORY, horizon=HORIZON)[:count]
    batch = stack_fields(
        given, fit_scaler(TrainingWindows(given)), fit_note_vocabulary(TrainingWindows(given))
    )
    words = tuple(f"{i} people walked by at {7 * i}:00." for i in range(count))
    generator = torch.Generator().manual_seed(3)
    return replace(batch, prompts=words, base=torch.randn(batch.base.shape, generator=generator))


def test_without_layers_and_heads_an_arm_is_linear_from_end_to_end():
    settings = EncoderSettings(d_st=16, patch=HISTORY, layers=0, graph="none", mixer="mlp")
    shape = FieldShape(HISTORY, HORIZON, 3, 1, 24)
    made = build_arm(
        "none", ArmSpec(shape, fields.EDGES, 16, 1.0, 4, settings, Projection(head="none")), seed=0
    )
    torch.nn.init.normal_(made.head.out.weight)
    batch = batch_of()
    zero, one, two = (made(replace(batch, values=k * batch.values)) for k in (0.0, 1.0, 2.0))
    assert (one - zero).abs().max() > 1e-2
    torch.testing.assert_close(two - zero, 2 * (one - zero), rtol=1e-4, atol=1e-5)


@pytest.fixture
def arm(tiny):
    def make(backbone: str, *, seed=0, tokens="place", warm=None) -> Arm:
        name = ("random:" if backbone == "llm-random" else "") + tiny()
        llm = load_llm(name, depth=2, dtype="fp32", seed=7) if backbone in BACKBONES[4:] else None
        adapter = LORA if backbone in ("matched", "llm-lora") else FROZEN
        return build_arm(
            backbone, blueprint(tokens), seed=seed, init_weights=warm, llm=llm, adaptation=adapter
        )

    return make


def backbone_weights(arm):
    return {name: p for name, p in arm.backbone.named_parameters() if p.requires_grad}


def test_the_shared_parts_are_the_same_for_every_backbone(arm):
    arms = {name: arm(name) for name in BACKBONES}
    assert len({each.shared_sha256 for each in arms.values()}) == 1
    for part in SHARED:
        assert len({state_sha256(getattr(each, part)) for each in arms.values()}) == 1


def test_another_seed_gives_other_shared_parts(arm):
    assert arm("none", seed=0).shared_sha256 != arm("none", seed=1).shared_sha256


def test_the_seed_alone_decides_whatever_was_drawn_before(arm):
    first = arm("attention")
    torch.rand(17)
    again = arm("attention")
    assert state_sha256(first) == state_sha256(again)
    state = torch.random.get_rng_state()
    arm("attention")
    assert torch.equal(torch.random.get_rng_state(), state)


def test_no_two_arms_share_a_weight(arm):
    arms = [arm(name) for name in ("none", "attention", "none")]
    places = [{p.data_ptr() for p in each.parameters()} for each in arms]
    assert not places[0] & places[1]
    assert not places[0] & places[2]


def test_training_one_arm_leaves_the_others_as_they_were(arm):
    one, other = arm("none"), arm("attention")
    before = state_sha256(other)
    with torch.no_grad():
        for p in one.parameters():
            p.add_(1)
    assert state_sha256(other) == before


def test_an_encoder_trained_before_is_taken_by_every_arm(arm):
    probe = EncoderWithHead(blueprint(), seed=5)
    with torch.no_grad():
        for p in probe.parameters():
            p.add_(0.01)
    warm = {name: tensor.clone() for name, tensor in probe.encoder.state_dict().items()}
    arms = [arm(name, warm=warm) for name in BACKBONES]
    assert {state_sha256(each.encoder) for each in arms} == {state_sha256(probe.encoder)}
    assert len({each.shared_sha256 for each in arms}) == 1
    cold = arm("none")
    assert arms[0].shared_sha256 != cold.shared_sha256
    assert state_sha256(arms[0].head) == state_sha256(cold.head)
    assert not {p.data_ptr() for p in arms[0].parameters()} & {t.data_ptr() for t in warm.values()}


def test_a_head_trained_before_is_taken_with_its_encoder(arm):
    probe = EncoderWithHead(blueprint(), seed=5)
    with torch.no_grad():
        for p in probe.parameters():
            p.add_(0.01)
    warm = dict(probe.encoder.state_dict()) | {f"head.{n}": t for n, t in probe.head.state_dict().items()}
    made = arm("none", warm=warm)
    assert state_sha256(made.encoder) == state_sha256(probe.encoder)
    assert state_sha256(made.head) == state_sha256(probe.head)


@pytest.mark.parametrize("setting", [{"center_on": "slot"}, {"fusion": "scale"}])
def test_sequences_have_neither_slots_nor_values_to_scale(setting):
    shape = SequenceShape(task="next-place", points=4, features=3, codes=5, horizon=1, channels=1)
    made = replace(blueprint(), shape=shape, encoder=EncoderSettings(**setting))
    with pytest.raises(ConfigError, match=r"encoder.center_on and encoder.fusion are for fields"):
        build_encoder(made)


def test_an_encoder_of_another_shape_is_refused(arm):
    warm = EncoderWithHead(blueprint("place"), seed=5).encoder.state_dict()
    warm["embed.node.weight"] = torch.zeros(4, 16)
    with pytest.raises(RuntimeError, match="size mismatch"):
        arm("none", warm=warm)


@pytest.mark.parametrize("tokens", ["place", "patch"])
@pytest.mark.parametrize("name", BACKBONES)
def test_an_untrained_arm_is_exactly_its_base_forecast(arm, name, tokens):
    batch = batch_of()
    with torch.no_grad():
        assert torch.equal(arm(name, tokens=tokens)(batch), batch.base)
        assert torch.equal(EncoderWithHead(blueprint(tokens), seed=0)(batch), batch.base)


@pytest.mark.slow
@pytest.mark.parametrize("name", BACKBONES)
def test_it_overfits_one_batch(arm, name):
    trainee, batch = arm(name), batch_of(2)
    batch = replace(batch, base=torch.zeros_like(batch.base))
    start = {key: p.detach().clone() for key, p in trainee.named_parameters()}
    learn = [p for p in trainee.parameters() if p.requires_grad]
    optimiser = torch.optim.AdamW(learn, lr=5e-3)
    errors = []
    for _ in range(80):
        loss = ((trainee(batch) - batch.target) ** 2 * batch.valid).sum() / batch.valid.sum()
        optimiser.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(learn, 1.0)
        optimiser.step()
        errors.append(float(loss.detach()))
    assert min(errors[-10:]) < 0.1 * errors[0]  # steps this long jump about the end
    frozen = [key for key, p in trainee.named_parameters() if not p.requires_grad]
    assert all(torch.equal(start[key], dict(trainee.named_parameters())[key]) for key in frozen)
    assert bool(frozen) == name.startswith("llm-")
    adapted = [
        p for key, p in backbone_weights(trainee).items() if not torch.equal(p, start[f"backbone.{key}"])
    ]
    assert len(adapted) == len(backbone_weights(trainee))


@pytest.mark.parametrize("name", BACKBONES)
def test_the_gradient_reaches_every_trained_parameter_that_the_backbone_uses(arm, name):
    trainee, batch = arm(name), batch_of()
    torch.nn.init.normal_(trainee.head.out.weight)
    for key, p in trainee.named_parameters():
        if "lora_B" in key:
            torch.nn.init.normal_(p)
    trainee(batch).square().sum().backward()
    still = {
        key
        for key, p in trainee.named_parameters()
        if p.requires_grad and not (p.grad is not None and p.grad.any())
    }
    # Primitive backbones read no words; the batch has no notes and no holidays to speak of.
    spared = set() if name.startswith("llm-") else {"down.word.0.weight", "down.word.1.weight"}
    # Of four experts those that no slot of so few has chosen are not used.
    unused = {key for key in still if key.startswith("backbone.feed.experts.")}
    assert len(unused) < 4 * 4
    assert still - unused - {"encoder.embed.notes.weight"} == spared


@pytest.mark.parametrize("tokens", ["place", "patch"])
@pytest.mark.parametrize("name", BACKBONES)
def test_a_window_in_a_batch_is_forecast_as_it_is_alone(arm, name, tokens):
    trainee, batch = arm(name, tokens=tokens).eval(), batch_of()
    torch.nn.init.normal_(trainee.head.out.weight)
    with torch.no_grad():
        whole = trainee(batch)
        alone = torch.cat([trainee(batch.take([i])) for i in range(len(batch))])
    torch.testing.assert_close(whole, alone, rtol=1e-3, atol=1e-4)
    assert (whole - batch.base).abs().max() > 0.1


@pytest.mark.parametrize("name", ["llm-random", "llm-frozen", "llm-lora"])
def test_words_change_what_an_arm_with_a_language_model_says(arm, name):
    trainee, batch = arm(name).eval(), batch_of()
    torch.nn.init.normal_(trainee.head.out.weight)
    other = replace(batch, prompts=("nobody", *batch.prompts[1:]))
    with torch.no_grad():
        moved = (trainee(batch) - trainee(other)).abs().amax(dim=(1, 2, 3))
    assert moved[0] > 1e-3
    assert moved[1:].max() < 1e-4


def test_an_adapter_makes_the_random_arm_the_twin_of_the_lora_arm(tiny, arm):
    llm = load_llm("random:" + tiny(), depth=2, dtype="fp32", seed=7)
    twin = build_arm("llm-random", blueprint(), seed=0, llm=llm, adaptation=LORA)
    assert trained_parameter_count(twin) == trained_parameter_count(arm("llm-lora"))
    assert backbone_weights(twin).keys() == backbone_weights(arm("llm-lora")).keys()


def test_a_frozen_arm_takes_no_adapter(tiny):
    llm = load_llm(tiny(), depth=2, dtype="fp32")
    assert (
        trained_parameter_count(
            build_arm("llm-frozen", blueprint(), seed=0, llm=llm, adaptation=LORA).backbone
        )
        == 0
    )


def test_an_unknown_backbone_is_refused_with_the_nearest_name():
    with pytest.raises(ConfigError, match="There is no backbone 'llm-loar'. Did you mean 'llm-lora'?"):
        build_arm("llm-loar", blueprint(), seed=0)


@pytest.mark.parametrize("name", BACKBONES[4:])
def test_a_backbone_without_its_language_model_is_refused(name):
    with pytest.raises(ConfigError, match=f"The backbone '{name}' needs a language model"):
        build_arm(name, blueprint(), seed=0)


def test_a_lora_arm_with_nothing_to_train_is_refused(tiny):
    with pytest.raises(ConfigError, match="nothing of it is to be trained. Give `adapt:"):
        build_arm("llm-lora", blueprint(), seed=0, llm=load_llm(tiny(), depth=2, dtype="fp32"))


def test_the_hash_of_a_state_tells_names_and_values():
    one, other = torch.nn.Linear(2, 2), torch.nn.Linear(2, 2)
    other.load_state_dict(one.state_dict())
    assert state_sha256(one) == state_sha256(other)
    assert state_sha256(torch.nn.Sequential(one)) != state_sha256(one)
    with torch.no_grad():
        other.bias[0] += 1e-6
    assert state_sha256(one) != state_sha256(other)


def test_an_encoder_of_paths_is_warmed_up_through_its_query_as_through_all_slots():
    shape = SequenceShape(task="classify", points=4, features=3, codes=5, horizon=1, channels=1)
    settings = EncoderSettings(d_st=16, layers=2)
    probe = EncoderWithHead(ArmSpec(shape, fields.EDGES, 16, 1.0, 4, settings), seed=0)
    torch.nn.init.normal_(probe.head.out.weight)
    make = torch.Generator().manual_seed(0)
    data = PointBatch(
        numbers=torch.randn((2, 4, 3), generator=make),
        codes=torch.ones((2, 4), dtype=torch.long),
        calendar=torch.zeros((2, 5, 2), dtype=torch.long),
        position=torch.randn((2, 5, 3), generator=make),
        real=torch.ones((2, 4), dtype=torch.bool),
        base=torch.zeros((2, 4, 1)),
        target=torch.zeros((2, 1, 1)),
        valid=torch.ones((2, 1, 1), dtype=torch.bool),
        noise=torch.zeros((2, 0, 0)),
        mean_step_m=torch.ones(2),
        query=torch.zeros((2, 0)),
        prompts=("",) * 2,
    )
    torch.testing.assert_close(probe(data), probe.head(probe.encoder(data), data))
