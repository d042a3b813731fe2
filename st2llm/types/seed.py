"""Seeds that follow from a text, such as the id of a sample, so that a draw does not depend on order or machine."""

import hashlib


def seed_from(text: str, bits: int = 64) -> int:
    """The first `bits` bits of the SHA-256 of `text`, as an integer of 0 to 2**bits - 1.

    bits: 64 for `numpy.random.default_rng`; 32 for `torch.manual_seed` on all devices; at most 256.
    """
    digest = int.from_bytes(hashlib.sha256(text.encode()).digest(), "big")
    return digest >> (256 - bits)
