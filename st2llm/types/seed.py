"""Seeds that follow from a text, such as the id of a sample, and what is held out by them: no draw depends on order or
machine."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

from st2llm.errors import DataError, nearest
from st2llm.types.checked import checked


def seed_from(text: str, bits: int = 64) -> int:
    """The first `bits` bits of the SHA-256 of `text`, as an integer of 0 to 2**bits - 1.

    bits: 64 for `numpy.random.default_rng`; 32 for `torch.manual_seed` on all devices; at most 256.
    """
    digest = int.from_bytes(hashlib.sha256(text.encode()).digest(), "big")
    return digest >> (256 - bits)


@checked
@dataclass(frozen=True)
class HoldOut:
    """Places, or marks of events, that training and validation never ask for, and that alone are asked for in the test.

    by: 'place' or 'mark'. names: of those that are held out; without names, a `share` of them is drawn by `seed`.
    unseen: of places, whether no part shows a value of them (cold start); validation then asks for as many others,
    which no part shows a value of either. known: training and validation ask for all, so that only the test is
    restricted.
    """

    by: str
    names: tuple[str, ...] = ()
    share: float = 0.0
    seed: int = 0
    unseen: bool = False
    known: bool = False

    def of_validation(self, ids: Sequence[str], where: str) -> frozenset[str]:
        """As many others of these ids, for a validation that asks for unseen ones as the test does.

        Raises DataError as `of` does, and where nothing would be left to train on.
        """
        held = self.of(ids, where)
        others = sorted(set(ids) - held, key=lambda id: seed_from(f"{self.seed} {where} {id}"))
        if len(others) <= len(held):
            raise DataError(
                f"{where}: `split.hold_out` holds out {len(held)} of {len(set(ids))} for the test and as many for "
                f"validation, so nothing is left to train on. Hold out less than half."
            )
        return frozenset(others[: len(held)])

    def of(self, ids: Sequence[str], where: str) -> frozenset[str]:
        """Those of these ids that are held out: at least one, and not all. Raises DataError for an unknown name."""
        for name in self.names:
            if name not in ids:
                raise DataError(
                    f"{where}: `split.hold_out` names the {self.by} {name!r}, which does not exist. "
                    f"{nearest(name, set(ids))}"
                )
        if not self.names:
            order = sorted(ids, key=lambda id: seed_from(f"{self.seed} {where} {id}"))
            return frozenset(order[: min(max(round(self.share * len(ids)), 1), len(ids) - 1)])
        if len(set(self.names)) == len(set(ids)):
            raise DataError(
                f"{where}: `split.hold_out` names every {self.by}, so nothing is left to train on. Name some of them."
            )
        return frozenset(self.names)
