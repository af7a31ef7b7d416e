"""How much memory and how many threads an enclave gets: from the role and what was agreed on.

An enclave's size is fixed when it is signed and has to be a power of two. Too small ends in a
process that dies for want of memory; too large costs start-up time without EDMM, since every page
is added to the enclave first (about 16 s for 16 GiB).
"""

from wardian._internal.agreed import Agreed
from wardian.tee.role_table import RoleSpec

LIBRARY_OS_BYTES = 64 * 1024**2
"""Gramine's own code, heap and tables."""

GRAMINE_THREADS = 4
"""Inter-process communication, asynchronous events, and two TLS handshakes between its parts."""

MODEL_COPIES = 3
"""A model's bytes while it loads: the opened file, what the engine parses it into, its weights in
the layout that the processor wants. Where two engines are measured against each other, one more."""

SMALLEST_BYTES = 256 * 1024**2


def enclave_bytes(spec: RoleSpec, agreed: Agreed | None, *, runs_models: bool) -> int:
    """Return the size of the enclave of `spec`, a power of two in bytes.

    Args:
        spec: the role.
        agreed: how large models and requests may be; None: it has neither.
        runs_models: whether the role opens a model; any of those agreed on, so the largest counts.
    """
    needed = LIBRARY_OS_BYTES + spec.heap_bytes
    if agreed is not None:
        needed += 2 * agreed.limits.max_body_bytes
    if agreed is not None and runs_models:
        needed += max(
            (MODEL_COPIES + (terms.engine == "auto")) * terms.max_model_bytes
            + (0 if terms.generate is None else terms.generate.cache_bytes)
            for terms in agreed.models.values()
        )
    return max(SMALLEST_BYTES, 1 << (needed - 1).bit_length())


def max_threads(spec: RoleSpec, agreed: Agreed | None, *, runs_models: bool, edmm: bool) -> int:
    """Return how many threads the enclave of `spec` has at once; with EDMM, how many at first."""
    if edmm:
        return 1
    engine = 0
    if agreed is not None and runs_models:
        engine = max(
            terms.threads * (1 + (terms.engine == "auto")) for terms in agreed.models.values()
        )
    return GRAMINE_THREADS + 1 + spec.threads + engine
