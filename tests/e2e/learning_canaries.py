"""Numbers and texts of parties that can be recognised in whatever form they leak."""

import base64
import hashlib
import struct
from collections import defaultdict
from collections.abc import Mapping
from pathlib import Path

import numpy as np

APP = Path(__file__).parent / "canary_party.py"
SECRET = "NODE-CANARY-7f1e09c4-"
"""How a party's own setting begins."""
TROUBLE = "ERROR-CANARY-5b2d88a1-of-patient-4711"
EXAMPLES = {"a": 1_034_567_890_123, "b": 1_012_345_678_987}
LOSS = {"a": 0.7310585786300049, "b": 0.26894142136999512}
PIECE = 4
"""As many numbers of an array in a row are recognised, wherever they stand."""

HEAD = 8
"""No form is shorter."""

Canary = bytes | str | int | float | np.ndarray


def private(party: str, number: int) -> dict[str, np.ndarray]:
    """What a party sends in round `number`: of its data alone."""
    seed = int.from_bytes(hashlib.sha256(f"{SECRET}{party}/{number}".encode()).digest()[:8])
    made = np.random.default_rng(seed)
    return {"w": made.normal(size=(8, 8)).astype(np.float32), "b": made.normal(size=32)}


def forms(canary: Canary) -> set[bytes]:
    """Return what to look for: every form in which `canary`, or a piece of it, may stand."""
    if isinstance(canary, np.ndarray):
        flat = canary.reshape(-1)
        pieces = [flat[at : at + PIECE] for at in range(0, len(flat) - PIECE + 1, PIECE)]
        wide = [piece.astype(kind) for piece in pieces for kind in (flat.dtype, np.float64)]
        raw = [piece.astype(piece.dtype.newbyteorder(o)).tobytes() for piece in wide for o in "<>"]
        texts = [text for number in flat for text in (repr(float(number)), str(number))]
        return {form for each in raw for form in of_bytes(each)} | decimal(texts)
    if isinstance(canary, int):
        raw = [struct.pack(order, canary) for order in ("<q", ">q", "<d", ">d")]
        return {f for each in raw for f in of_bytes(each)} | {str(canary).encode()}
    if isinstance(canary, float):
        raw = [struct.pack(order, canary) for order in ("<d", ">d")]
        return {f for each in raw for f in of_bytes(each)} | decimal([repr(canary)])
    return of_bytes(canary.encode() if isinstance(canary, str) else canary)


def of_bytes(raw: bytes) -> set[bytes]:
    """As it is, in hex, and in base64 at every alignment; both alphabets."""
    found = {raw, raw.hex().encode(), raw.hex().upper().encode()}
    for shift in range(3):
        text = base64.b64encode(bytes(shift) + raw)
        whole = text[4 if shift else 0 : len(text) - 4 if (shift + len(raw)) % 3 else None]
        found |= {whole, whole.translate(bytes.maketrans(b"+/", b"-_"))}
    return found


def decimal(texts: list[str]) -> set[bytes]:
    """The first digits of numbers: eight are no accident."""
    digits = [text.lstrip("-0.") for text in texts]
    return {each[:9].encode() for each in digits if len(each) >= 9 and "e" not in each[:9]}


def leaks(seen: bytes, canaries: Mapping[str, Canary]) -> set[str]:
    """Return which of `canaries` stand in `seen`, in whatever form."""
    wanted: dict[bytes, list[tuple[bytes, str]]] = defaultdict(list)
    for name, canary in canaries.items():
        for form in forms(canary):
            assert len(form) >= HEAD
            wanted[form[:HEAD]].append((form, name))
    found = set()
    for at in range(len(seen) - HEAD + 1):
        for form, name in wanted.get(seen[at : at + HEAD], ()):
            if seen.startswith(form, at):
                found.add(name)
    return found
