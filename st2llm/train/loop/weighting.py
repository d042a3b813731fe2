"""How the terms of an objective share the weights of a module: learned weights, balanced or projected gradients.

The fixed weights of a sum need none of this. Each scheme adds the gradients of one batch to the parameters. Parameters
are shared where more than one term has a gradient.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Protocol, runtime_checkable

import torch
from torch import Tensor, nn

_RATE = 0.025
"""Learning rate of learned weights, that of GradNorm's authors."""
_ALPHA = 1.5
"""How strongly GradNorm slows down terms whose loss has fallen more; the authors' value for related tasks."""
_LEAST_WEIGHT = 0.01
Gradients = Mapping[str, Sequence[Tensor | None]]
"""The gradient of each parameter by term; None where a term does not depend on it."""


@runtime_checkable
class Weighting(Protocol):
    """Computes the gradients of a batch from the losses of its terms."""

    def backward(self, losses: Mapping[str, Tensor], parameters: Sequence[nn.Parameter]) -> None:
        """Sets the gradients of the parameters, and learns from the losses where weights are learned."""
        ...

    @property
    def weights(self) -> Mapping[str, float]:
        """The present factor on the loss of each term; empty where there are none."""
        ...

    def state(self) -> dict[str, Tensor]:
        """What a resumed run needs, by name."""
        ...

    def restore(self, state: Mapping[str, Tensor]) -> None:
        """Takes up the state of an earlier run."""
        ...


class _LearnedWeights:
    """One number for each term, moved by Adam along a gradient that is given."""

    def __init__(self, terms: Sequence[str], start: float) -> None:
        self.terms = tuple(terms)
        self.values = nn.Parameter(torch.full((len(self.terms),), start))
        self.optimiser = torch.optim.Adam([self.values], lr=_RATE)

    def move(self, gradient: Tensor) -> None:
        self.values.grad = gradient
        self.optimiser.step()

    def state(self) -> dict[str, Tensor]:
        moments = self.optimiser.state.get(self.values, {})
        return {"values": self.values.detach().clone()} | {key: t.clone() for key, t in moments.items()}

    def restore(self, state: Mapping[str, Tensor]) -> None:
        with torch.no_grad():
            self.values.copy_(state["values"])
        moments = {key: state[key].clone() for key in ("step", "exp_avg", "exp_avg_sq") if key in state}
        if moments:
            self.optimiser.state[self.values] = moments


class UncertaintyWeighting:
    """Weights by learned uncertainty (Kendall et al. 2018): the sum of exp(-s) * loss + s, with one s for each term.

    For an absolute error, exp(s) is the scale of a Laplace distribution, for a squared one a variance up to a factor.
    The weight of a term moves towards the inverse of its loss.
    """

    def __init__(self, terms: Sequence[str]) -> None:
        self.log_scale = _LearnedWeights(terms, 0.0)

    @property
    def weights(self) -> Mapping[str, float]:
        factors = torch.exp(-self.log_scale.values.detach()).tolist()
        return dict(zip(self.log_scale.terms, factors, strict=True))

    def backward(self, losses: Mapping[str, Tensor], parameters: Sequence[nn.Parameter]) -> None:
        weights = self.weights
        torch.autograd.backward([weights[name] * loss for name, loss in losses.items()])
        self.log_scale.move(
            torch.tensor(
                [1.0 - weights[name] * float(losses[name].detach()) for name in self.log_scale.terms]
            )
        )

    def state(self) -> dict[str, Tensor]:
        return self.log_scale.state()

    def restore(self, state: Mapping[str, Tensor]) -> None:
        self.log_scale.restore(state)


class GradNorm:
    """Weights that balance the norms of the terms' gradients on all shared parameters (Chen et al. 2018).

    A term whose loss has fallen less, relative to its first one, gets a larger norm. The weights add up to the number
    of terms and stay above 0.01.
    """

    def __init__(self, terms: Sequence[str]) -> None:
        self.factor = _LearnedWeights(terms, 1.0)
        self.first: Tensor | None = None

    @property
    def weights(self) -> Mapping[str, float]:
        return dict(zip(self.factor.terms, self.factor.values.detach().tolist(), strict=True))

    def backward(self, losses: Mapping[str, Tensor], parameters: Sequence[nn.Parameter]) -> None:
        gradients = gradients_of(losses, parameters)
        weights = self.weights
        _set_gradients(
            parameters, {name: [_scaled(g, weights[name]) for g in rows] for name, rows in gradients.items()}
        )
        shared = shared_positions(gradients)
        norms = [_flat(gradients[name], parameters, shared).norm() for name in self.factor.terms]
        self._learn(
            torch.stack([losses[name].detach() for name in self.factor.terms]).cpu(), torch.stack(norms).cpu()
        )

    def _learn(self, losses: Tensor, norms: Tensor) -> None:
        """Moves the weights along the gradient of the distance between weighted norms and their targets."""
        if self.first is None:
            self.first = losses.clone()
        pace = losses / self.first.clamp(min=torch.finfo(losses.dtype).tiny)
        weighted = self.factor.values.detach() * norms
        target = weighted.mean() * (pace / pace.mean()) ** _ALPHA
        self.factor.move(torch.sign(weighted - target) * norms)
        with torch.no_grad():
            positive = self.factor.values.clamp(min=_LEAST_WEIGHT)
            self.factor.values.copy_(positive * len(positive) / positive.sum())

    def state(self) -> dict[str, Tensor]:
        return self.factor.state() | ({} if self.first is None else {"first": self.first.clone()})

    def restore(self, state: Mapping[str, Tensor]) -> None:
        self.factor.restore(state)
        self.first = state["first"].clone() if "first" in state else None


class PCGrad:
    """Projected gradients (Yu et al. 2020): where two terms conflict on shared parameters, each gives up its part
    against the other.

    The others are taken in an order that is drawn for each step and term.
    """

    weights: Mapping[str, float] = {}

    def __init__(self, terms: Sequence[str]) -> None:
        self.steps = 0

    def backward(self, losses: Mapping[str, Tensor], parameters: Sequence[nn.Parameter]) -> None:
        gradients = gradients_of(losses, parameters)
        shared = shared_positions(gradients)
        own = {name: _flat(rows, parameters, shared) for name, rows in gradients.items()}
        generator = torch.Generator().manual_seed(self.steps)
        projected = torch.stack([project(name, own, generator) for name in own]).sum(dim=0)
        self.steps += 1
        _set_gradients(parameters, gradients)
        start = 0
        for position in shared:
            parameter = parameters[position]
            part = projected[start : start + parameter.numel()]
            parameter.grad = part.reshape(parameter.shape).clone()
            start += parameter.numel()

    def state(self) -> dict[str, Tensor]:
        return {"steps": torch.tensor(self.steps)}

    def restore(self, state: Mapping[str, Tensor]) -> None:
        self.steps = int(state["steps"])


SCHEMES: Mapping[str, Callable[[Sequence[str]], Weighting]] = {
    "uncertainty": UncertaintyWeighting,
    "gradnorm": GradNorm,
    "pcgrad": PCGrad,
}
"""The schemes beside `fixed`, by the setting `weighting`."""


def project(name: str, gradients: Mapping[str, Tensor], generator: torch.Generator) -> Tensor:
    """The gradient of a term without its parts against the gradients of the others, one after the other."""
    others = [other for other in gradients if other != name]
    own = gradients[name].clone()
    for i in torch.randperm(len(others), generator=generator).tolist():
        other = gradients[others[i]]
        against = torch.dot(own, other).clamp(max=0.0)
        own -= against / torch.dot(other, other).clamp(min=torch.finfo(other.dtype).tiny) * other
    return own


def cosines(gradients: Mapping[str, Tensor]) -> dict[str, float]:
    """The cosine similarity of each two gradients, as `cosine A, B`."""
    names = list(gradients)
    return {
        f"cosine {a}, {b}": float(nn.functional.cosine_similarity(gradients[a], gradients[b], dim=0))
        for i, a in enumerate(names)
        for b in names[i + 1 :]
    }


def shared_gradients(losses: Mapping[str, Tensor], parameters: Sequence[nn.Parameter]) -> dict[str, Tensor]:
    """The gradient of each term on all shared parameters, as one vector."""
    gradients = gradients_of(losses, parameters)
    shared = shared_positions(gradients)
    return {name: _flat(rows, parameters, shared) for name, rows in gradients.items()}


def gradients_of(losses: Mapping[str, Tensor], parameters: Sequence[nn.Parameter]) -> Gradients:
    """The gradient of each term."""
    return {
        name: torch.autograd.grad(loss, parameters, retain_graph=True, allow_unused=True)
        for name, loss in losses.items()
    }


def shared_positions(gradients: Gradients) -> list[int]:
    """The positions of the parameters that more than one term depends on."""
    by_parameter = zip(*gradients.values(), strict=True)
    return [i for i, rows in enumerate(by_parameter) if sum(row is not None for row in rows) > 1]


def _flat(
    rows: Sequence[Tensor | None], parameters: Sequence[nn.Parameter], positions: Sequence[int]
) -> Tensor:
    parts = [torch.zeros_like(parameters[i]) if (row := rows[i]) is None else row for i in positions]
    return torch.cat([part.flatten() for part in parts]) if parts else torch.zeros(1)


def _scaled(gradient: Tensor | None, factor: float) -> Tensor | None:
    return None if gradient is None else factor * gradient


def _set_gradients(parameters: Sequence[nn.Parameter], gradients: Gradients) -> None:
    """Sets the gradient of each parameter to the sum over terms; None where no term depends on it."""
    for i, parameter in enumerate(parameters):
        parts = [part for rows in gradients.values() if (part := rows[i]) is not None]
        parameter.grad = torch.stack(parts).sum(dim=0) if parts else None
