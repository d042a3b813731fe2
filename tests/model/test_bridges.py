"""Every head, adaptation and kind of data learns a batch by heart through a language model that changes as it says."""

import pytest
import torch
from support.bridges import joined

from st2llm.config.model import HEADS, Adaptation, Projection
from st2llm.errors import ConfigError
from st2llm.llm import load_llm
from st2llm.llm.local import fingerprint

KINDS = ("graph", "grid", "video", "trajectory", "event")
METHODS = {
    "frozen": Adaptation(),
    "lora": Adaptation(method="lora", rank=4),
    "dora": Adaptation(method="lora", rank=4, dora=True, rslora=True),
    "norms": Adaptation(method="norms"),
    "partial": Adaptation(method="partial", layers=1),
    "full": Adaptation(method="full"),
}


def loss_of(arm, batch, objective):
    (total,), (count,) = objective.totals(arm, batch).values(), objective.counts(batch).values()
    return total / count


def learn(arm, batch, objective, steps=40, lr=1e-2):
    optimiser = torch.optim.AdamW([p for p in arm.parameters() if p.requires_grad], lr=lr)
    arm.train()
    losses = []
    for _ in range(steps):
        loss = loss_of(arm, batch, objective)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        losses.append(float(loss.detach()))
    return losses


# Every head with every kind (their shapes meet), and every method with every kind behind one head (what is trained).
JOINED = [(kind, head, "frozen") for kind in KINDS for head in HEADS] + [
    (kind, "mlp", method) for kind in KINDS for method in METHODS if method != "frozen"
]


@pytest.mark.slow
@pytest.mark.parametrize(("kind", "head", "method"), JOINED)
def test_a_batch_is_learned_by_heart_and_what_is_frozen_stays(tiny, kind, head, method):
    llm = load_llm(tiny(), depth=2, dtype="fp32")
    names = {name for name, _ in llm.model.named_parameters()}
    before = {name: p.detach().clone() for name, p in llm.model.named_parameters()}
    arm, batch, objective = joined(
        kind, llm, up=Projection(head=head, tokens=4, prototypes=8), how=METHODS[method]
    )
    # Behind a resampler, what tells places apart is learned too, and all of it passes through the language model.
    losses = learn(arm, batch, objective, steps=80 if head == "resampler" else 40)
    # Nats may fall below nought; errors come down to three quarters at most.
    assert min(losses) < losses[0] - (0.3 if kind == "event" else 0.25 * losses[0])
    after = dict(llm.model.named_parameters())
    own = {n.replace(".base_layer", "") for n in after if "lora_" not in n}
    assert own == names
    changed = {n for n in names if not torch.equal(before[n], after.get(n, before[n]))}
    moved = {
        n
        for n in names
        if not torch.equal(before[n], next(p for m, p in after.items() if m.replace(".base_layer", "") == n))
    }
    assert changed <= moved
    if method in ("frozen", "lora", "dora"):
        assert not moved
    elif method == "norms":
        assert moved and all("norm" in n for n in moved)
    elif method == "partial":
        assert all("norm" in n or ".1.self_attn" in n for n in moved) and any("self_attn" in n for n in moved)
    else:
        assert any("mlp" in n for n in moved) and not any("embed" in n for n in moved)


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("head", HEADS)
def test_a_batch_says_what_its_samples_say_alone(tiny, kind, head):
    llm = load_llm(tiny(), depth=2, dtype="fp32")
    arm, batch, objective = joined(
        kind, llm, up=Projection(head=head, tokens=4, prototypes=8, virtual_tokens=2)
    )
    learn(arm, batch, objective, steps=3)
    arm.eval()
    with torch.no_grad():
        whole = objective.totals(arm, batch)
        alone = [objective.totals(arm, batch.take([i])) for i in range(len(batch))]
    for name, total in whole.items():
        torch.testing.assert_close(total, sum(part[name] for part in alone), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("prompt", [0, 3])
@pytest.mark.parametrize("mask", ["causal", "adjacency"])
def test_remembered_words_give_the_value_and_gradient_of_words_read_anew(tiny, mask, prompt):
    llm = load_llm(tiny(), depth=2, dtype="fp32")
    arm, batch, objective = joined("graph", llm, up=Projection(attention_mask=mask, virtual_tokens=prompt))
    torch.nn.init.normal_(arm.head.out.weight, std=0.3)

    def run():
        arm.zero_grad()
        loss = loss_of(arm, batch, objective)
        loss.backward()
        return loss.detach(), {n: p.grad.clone() for n, p in arm.named_parameters() if p.grad is not None}

    loss, gradients = run()
    arm.backbone.prompt_cache = None
    again, anew = run()
    torch.testing.assert_close(loss, again, rtol=1e-5, atol=1e-5)
    for name, gradient in gradients.items():
        torch.testing.assert_close(gradient, anew[name], rtol=1e-3, atol=1e-4)
    assert any(name.startswith("encoder") for name in gradients)


def test_bf16_says_about_what_fp32_says(tiny):
    found = []
    for dtype in ("fp32", "bf16"):
        arm, batch, objective = joined("graph", load_llm(tiny(), depth=2, dtype=dtype))
        with torch.random.fork_rng():
            torch.manual_seed(3)
            torch.nn.init.normal_(arm.head.out.weight, std=0.3)
        loss = loss_of(arm, batch, objective)
        loss.backward()
        found.append((float(loss.detach()), float(arm.up.net[0].weight.grad.norm())))
    assert found[1][0] == pytest.approx(found[0][0], rel=0.02)
    assert found[1][1] == pytest.approx(found[0][1], rel=0.15)


def test_places_hear_their_neighbours_alone_where_the_mask_says_so(tiny):
    llm = load_llm(tiny(), depth=2, dtype="fp32")
    arm, batch, _ = joined("graph", llm, up=Projection(attention_mask="adjacency"))
    soft = torch.randn(1, 3, llm.d_lm, generator=torch.Generator().manual_seed(0))
    other = soft.clone()
    other[:, 2] += 1
    one, two = (arm.backbone(rows, (batch.prompts[0],))[0] for rows in (soft, other))
    moved = (one - two).abs().amax(dim=(0, 2))
    # Gates stand in a row: after one layer the last is heard next door, after two everywhere; so cut to one layer.
    assert moved[2] > 1e-3
    llm = load_llm(tiny(), depth=1, dtype="fp32")
    arm, batch, _ = joined("graph", llm, up=Projection(attention_mask="adjacency"))
    one, two = (arm.backbone(rows, (batch.prompts[0],))[0] for rows in (soft, other))
    moved = (one - two).abs().amax(dim=(0, 2))
    assert moved[0] < 1e-6 < 1e-4 < moved[1]


def test_adjacency_is_refused_where_soft_tokens_are_no_places(tiny):
    llm = load_llm(tiny(), depth=1, dtype="fp32")
    with pytest.raises(ConfigError, match="places of a field"):
        joined("event", llm, up=Projection(attention_mask="adjacency"))


def test_learned_prompt_vectors_are_trained_and_heard(tiny):
    llm = load_llm(tiny(), depth=2, dtype="fp32")
    arm, batch, objective = joined("graph", llm, up=Projection(virtual_tokens=4))
    before = arm.backbone.prompt.detach().clone()
    learn(arm, batch, objective, steps=3)
    assert (arm.backbone.prompt - before).abs().max() > 1e-4
    said = arm(batch).detach()
    with torch.no_grad():
        arm.backbone.prompt += 1.0
    assert (arm(batch) - said).abs().max() > 1e-5


def test_checkpointed_layers_give_the_same_gradient(tiny):
    found = []
    for checkpointing in (False, True):
        how = Adaptation(method="lora", rank=4, gradient_checkpointing=checkpointing)
        arm, batch, objective = joined("graph", load_llm(tiny(), depth=2, dtype="fp32"), how=how)
        with torch.random.fork_rng():
            torch.manual_seed(1)
            for name, p in arm.named_parameters():
                if "lora_" in name or name == "head.out.weight":
                    torch.nn.init.normal_(p, std=0.1)
        arm.train()
        loss_of(arm, batch, objective).backward()
        found.append({n: p.grad.clone() for n, p in arm.named_parameters() if p.grad is not None})
        layers = arm.backbone.base.layers
        assert [layer.training for layer in layers] == [checkpointing] * 2
        assert not layers[0].self_attn.training
    for name, gradient in found[0].items():
        # The recomputed layers use another attention kernel, so sums are rounded in another order.
        torch.testing.assert_close(gradient, found[1][name], rtol=1e-4, atol=1e-5)


def test_the_hash_of_a_frozen_model_is_the_same_after_training(tiny):
    llm = load_llm(tiny(), depth=2, dtype="fp32")
    before = fingerprint(llm.model)
    learn(*joined("event", llm), steps=5)
    assert fingerprint(llm.model) == before


class Silent(torch.nn.Module):
    """A backbone whose states and prompt state are zero."""

    def forward(self, soft, prompts):
        return torch.zeros_like(soft), torch.zeros_like(soft[:, 0])


@pytest.mark.parametrize("head", ["mlp", "resampler"])
@pytest.mark.parametrize("kind", KINDS)
def test_nothing_of_a_sample_passes_the_backbone_by(tiny, kind, head):
    arm, batch, _ = joined(kind, load_llm(tiny(), depth=1, dtype="fp32"), up=Projection(head=head, tokens=4))
    arm.backbone, seen = Silent(), []
    arm.head.register_forward_pre_hook(lambda module, given: seen.append(given[0]))
    with torch.no_grad():
        arm.eval()(batch)
    assert seen[0].shape[0] == len(batch) > 1
    torch.testing.assert_close(seen[0], seen[0][:1].expand_as(seen[0]), rtol=0, atol=0)
