"""Make `vectors.json` from `docs/reference/sealed-request.md`; imports nothing of Wardian.

    python tests/vectors/sealed-request/make.py

HPKE's labelled functions come from the reference beside the vectors of the sealed file; the exporter,
the answer (RFC 9458, section 4.4) and the byte tables are written down here once more.
"""

import hmac
import json
import sys
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

FOLDER = Path(__file__).parent
sys.path.insert(0, str(FOLDER.parent / "sealed-file"))

import hpke_reference as hpke  # noqa: E402  (found by the line above)

SUITE = b"HPKE\x00\x20\x00\x01\x00\x02"
PLACE = {"mesh": "test", "model": "digits", "manifest": bytes(range(100, 132)).hex(), "epoch": 7}
OPENS = "opens"


def counting(start):
    return bytes(range(start, start + 32))


def info_of(place):
    parts = (
        b"wardian sealed request v1",
        place["mesh"].encode(),
        place["model"].encode(),
        bytes.fromhex(place["manifest"]),
        place["epoch"].to_bytes(8, "big"),
    )
    return b"".join(len(part).to_bytes(8, "big") + part for part in parts)


def exporter(public, info, ephemeral):
    """Return the encapsulated key and the value exported for answers (RFC 9180, section 5.3)."""
    private = X25519PrivateKey.from_private_bytes(ephemeral)
    enc = private.public_key().public_bytes_raw()
    dh = private.exchange(X25519PublicKey.from_public_bytes(public))
    shared = hpke._decapsulated(dh, enc + public)
    context = b"\x00" + b"".join(
        hpke._labeled_extract(SUITE, b"", label, given)
        for label, given in ((b"psk_id_hash", b""), (b"info_hash", info))
    )
    secret = hpke._labeled_extract(SUITE, shared, b"secret", b"")
    exporter_secret = hpke._labeled_expand(SUITE, secret, b"exp", context, 32)
    label = b"wardian sealed answer v1"
    return enc, hpke._labeled_expand(SUITE, exporter_secret, b"sec", label, 32)


def answer(exported, enc, nonce, output):
    prk = hmac.digest(enc + nonce, exported, "sha256")
    key = hmac.digest(prk, b"key\x01", "sha256")
    iv = hmac.digest(prk, b"nonce\x01", "sha256")[:12]
    prefix = b"wdsa\x01\x00\x00\x00"
    return prefix + nonce + AESGCM(key).encrypt(iv, output, prefix)


def vector(
    name, place=PLACE, *, first=0, plaintext=b"text", output=b"", expect=OPENS, changed=bytes
):
    """Return one case, whose request is `changed`."""
    private, ephemeral, nonce = (counting(first + start) for start in (0, 32, 64))
    public = X25519PrivateKey.from_private_bytes(private).public_key().public_bytes_raw()
    found = {"name": name, **place, "private": private.hex(), "public": public.hex()}
    prefix = b"wdsr\x01\x00\x00\x00" + place["epoch"].to_bytes(8, "big")
    info = info_of(place)
    body = prefix + hpke.seal(public, plaintext, info=info, ephemeral=ephemeral, aad=prefix)
    if expect == OPENS:
        enc, exported = exporter(public, info, ephemeral)
        found |= {
            "ephemeral": ephemeral.hex(),
            "plaintext": plaintext.hex(),
            "nonce": nonce.hex(),
            "output": output.hex(),
            "answer": answer(exported, enc, nonce, output).hex(),
        }
    return found | {"request": changed(body).hex(), "expect": expect}


def vectors():
    asks, says = b"what the client asks", b"what the worker says"
    refused = "AuthenticationFailed"
    elsewhere = (
        ("of another model", {"model": "faces"}),
        ("of another mesh", {"mesh": "other"}),
        ("of another manifest", {"manifest": "00" * 32}),
        ("of another epoch", {"epoch": 8}),
    )
    return [
        vector("a request and its answer", plaintext=asks, output=says),
        vector("an empty request", PLACE | {"epoch": 2**53}, first=1, plaintext=b""),
        vector(
            "padded",
            PLACE | {"mesh": "a-mesh", "model": "a.model_1"},
            first=2,
            plaintext=b"x" + bytes(1023),
            output=b"y" + bytes(1023),
        ),
        *(vector(name, expect=refused) | moved(change) for name, change in elsewhere),
        vector(
            "a bit of its tag is flipped",
            expect=refused,
            changed=lambda body: body[:-1] + bytes([body[-1] ^ 1]),
        ),
        vector(
            "the encapsulated key is of small order",
            expect=refused,
            changed=lambda body: body[:16] + bytes(32) + body[48:],
        ),
        vector("cut short", expect="FormatError", changed=lambda body: body[:63]),
        vector(
            "of format 2",
            expect="FormatError",
            changed=lambda body: body[:4] + b"\x02" + body[5:],
        ),
    ]


def moved(change):
    """Return the request of a case that is sealed for another place than where it is opened."""
    sealed = vector("", PLACE | change, expect="")
    return {"request": sealed["request"]}


def text():
    return json.dumps(vectors(), indent=1) + "\n"


if __name__ == "__main__":
    (FOLDER / "vectors.json").write_text(text())
