"""The vectors of Analytics Zoo's encryption; imports nothing of Wardian.

    python tests/vectors/zoo-encryption/make.py

What the original made stands here as it was observed. The rest is made from
`docs/reference/zoo-encryption.md` with fixed IVs.
"""

import base64
import hashlib
import json
from pathlib import Path

from cryptography.hazmat.primitives.ciphers import Cipher
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.ciphers.algorithms import AES
from cryptography.hazmat.primitives.ciphers.modes import CBC

SECRET, SALT = "analytics-zoo", "intel-analytics"
HELLO = b"hello world, hello scala encrypt"
IV16, IV12 = bytes(range(16)), bytes(range(12))
MODEL = bytes(range(256)) * 2 + b"\xff"

KEYS = {
    128: "5e15223ba20db4be107dbfb57a6b5726",
    256: "5e15223ba20db4be107dbfb57a6b572691f5adb2daa316329502c77f4b95c117",
}

OBSERVED = [
    # case, comment, form, base64
    ("java-cbc-128", "by the class in the 0.11.2 jar", "cbc-128",
     "QqCldXGsCnuhwozvevzsGSiNHnynOBZ7mBlbH3NJJWJvag6dC2gwuzQme4NGz9pbmUtH+S9gjf4FLf2iPAt7ig=="),
    ("java-gcm-128", "by the class in the 0.11.2 jar", "gcm-128",
     "KcOwvJDolVyE2+KZ/Px6RceVVjCMbPuKsQvAqlS+2va9XE39wy/aUcxNaasTUSkmljP5mUdFtT8nNGM1"),
    ("java-cbc-256", "by the class in the 0.11.2 jar", "cbc-256",
     "laDbecPYLjc42n/dSTNF5ysAq1cA/dzZhph9sURpDr/Dv6gPa4CmvapOgmGMCeoUIvZs7O5ZGv8EEbWRNUdzpQ=="),
    ("java-gcm-256", "by the class in the 0.11.2 jar", "gcm-256",
     "BLUUBZEMux0Rf40RuqM7a3/csfj6XaRpgpgXRz+CEMOM92zUr9zopgLrWB3rwFp8EAgp6pp69tX9ymIj"),
    ("fixed-cbc-128", "IV 00 to 0f; the class decrypted it", "cbc-128",
     "AAECAwQFBgcICQoLDA0OD+kZTKBVJ0S66ybhs2WXLFZVnzx6dq8SNZTPuFrCy2azZzE/cREpqNXiwymkzWpoIw=="),
    ("fixed-gcm-128", "IV 00 to 0b; the class decrypted it", "gcm-128",
     "AAECAwQFBgcICQoLRpKS54yFpo4cZnbdimwL/wQZZAcYLH+IvJDTCa5SqAKDjkouP2tD42m/KF2vYsB2"),
    ("fixed-cbc-256", "IV 00 to 0f; the class decrypted it", "cbc-256",
     "AAECAwQFBgcICQoLDA0OD0KlXNi7tHsTfHhm7AlKdTyL0qD4TyASGP7BsNPw1XcSu4KUR2metd9FODsPaGuNgA=="),
    ("fixed-gcm-256", "IV 00 to 0b; the class decrypted it", "gcm-256",
     "AAECAwQFBgcICQoLK0etOG1Kvb34z1AHjFJcPOdgR8HT4/M/0Om+QtSg5wv3Z1LoR8yXKItTdZK2trMp"),
    ("v09-256", "from the source of 0.9; its class was not run", "v09-256",
     "UnCtvH9KPV1wVZhjRL0wIjmSthI37rekCd3RMchteS8rHmwgbcgRu5RYBqVJRVED"),
]  # fmt: skip
JAVA_BYTES = "z1U7lfOM/waKSJszjWF9KDdCtgRQeh00x718yLrz1d4="


def encrypt(plaintext: bytes, form: str, secret: str = SECRET, salt: str = SALT) -> bytes:
    bits = int(form[-3:])
    key = hashlib.pbkdf2_hmac("sha256", secret.encode(), salt.encode(), 65_536, bits // 8)
    if form.startswith("gcm"):
        return IV12 + AESGCM(key).encrypt(IV12, plaintext, None)
    pad = 16 - len(plaintext) % 16
    iv = bytes(16) if form.startswith("v09") else IV16
    cipher = Cipher(AES(key), CBC(iv)).encryptor()
    body = cipher.update(plaintext + bytes((pad,)) * pad) + cipher.finalize()
    return body if form.startswith("v09") else iv + body


def b64(raw: bytes) -> str:
    return base64.b64encode(raw).decode()


def case(name, comment, kind, form, sealed, expect, plaintext=None, *, written=False, **other):
    found = {
        "case": name, "comment": comment, "kind": kind, "form": form,
        "secret": SECRET, "salt": SALT, "sealed": sealed, "expect": expect,
        "plaintext": None if plaintext is None else b64(plaintext), "written": written,
    }  # fmt: skip
    return found | other


def good():
    for name, comment, form, sealed in OBSERVED:
        written = form != "v09-256"
        yield case(name, comment, "text", form, sealed, "ok", HELLO, written=written)
    yield case(
        "java-bytes-gcm-128", "bytes: no base64 there", "bytes", "gcm-128", JAVA_BYTES, "ok",
        bytes((0, 1, 2, 255)), written=True, secret="secret", salt="salt",
    )  # fmt: skip
    for form in ("cbc-128", "cbc-256", "gcm-128", "gcm-256", "v09-256"):
        text = MODEL.decode("latin-1").encode()
        written = form != "v09-256"
        yield case(
            f"model-{form}", "every byte, as Latin-1 in UTF-8", "model", form,
            b64(encrypt(text, form)), "ok", MODEL, written=written,
        )  # fmt: skip
        yield case(
            f"empty-{form}", "nothing", "text", form, b64(encrypt(b"", form)), "ok", b"",
            written=written,
        )  # fmt: skip


def bad():
    gcm, cbc = encrypt(HELLO, "gcm-128"), encrypt(HELLO, "cbc-128")
    no, odd = "AuthenticationFailed", "FormatError"
    for form in ("cbc-128", "gcm-256", "v09-256"):
        sealed = b64(encrypt(MODEL.decode("latin-1").encode(), form))
        yield case(f"secret-{form}", "another", "model", form, sealed, no, secret="analytics-zoe")
        yield case(f"salt-{form}", "another", "model", form, sealed, no, salt="intel-analytic")
    yield case("gcm-tag", "its last bit", "bytes", "gcm-128", b64(gcm[:-1] + b"\0"), no)
    yield case("gcm-iv", "its first bit", "bytes", "gcm-128", b64(b"\x80" + gcm[1:]), no)
    yield case("gcm-bits", "128 read as 256", "bytes", "gcm-256", b64(gcm), no)
    yield case("gcm-27", "no room for a tag", "bytes", "gcm-128", b64(gcm[:27]), odd)
    yield case("gcm-11", "no room for an IV", "bytes", "gcm-128", b64(gcm[:11]), odd)
    yield case("cbc-padding", "of 31", "bytes", "cbc-128", b64(cbc[:-17] + b"\1" + cbc[-16:]), no)
    yield case("cbc-blocks", "a byte short", "bytes", "cbc-128", b64(cbc[:-1]), odd)
    yield case("cbc-16", "an IV and no block", "bytes", "cbc-128", b64(cbc[:16]), odd)
    yield case(
        "cbc-altered", "a bit of the IV: NOT noticed", "text", "cbc-128",
        b64(bytes((cbc[0] ^ 1,)) + cbc[1:]), "ok", b"i" + HELLO[1:],
    )  # fmt: skip
    old = encrypt(HELLO, "v09-256")
    yield case(
        "v09-as-cbc", "opens, short of 16 bytes: NOT noticed", "text", "cbc-256", b64(old), "ok",
        HELLO[16:],
    )  # fmt: skip
    yield case("base64-line", "a line's end", "model", "gcm-128", b64(gcm) + "\n", odd)
    yield case("base64-inside", "a line's end within", "model", "gcm-128", "\n" + b64(gcm), odd)
    short = b64(encrypt(HELLO + b"!", "gcm-128"))  # ends in ==, or in one =
    assert short.endswith("=")
    yield case("base64-unpadded", "no =", "text", "gcm-128", short.rstrip("="), odd)
    at = len(short.rstrip("=")) - 1
    alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"
    bits = alphabet[alphabet.index(short[at]) | 1]
    yield case(
        "base64-bits", "bits behind the end", "text", "gcm-128",
        short[:at] + bits + short[at + 1 :], odd,
    )  # fmt: skip
    yield case("base64-url", "the other alphabet", "text", "gcm-128", b64(gcm[:-1]) + "_-==", odd)
    wide = "Āa".encode()
    yield case(
        "wide-gcm", "U+0100 in a model", "model", "gcm-128", b64(encrypt(wide, "gcm-128")), odd
    )
    yield case(
        "wide-cbc", "U+0100 in a model", "model", "cbc-128", b64(encrypt(wide, "cbc-128")), no
    )
    torn = b"a\xc3"
    yield case(
        "torn-gcm", "half a character", "model", "gcm-128", b64(encrypt(torn, "gcm-128")), odd
    )
    yield case(
        "torn-cbc", "half a character", "model", "cbc-128", b64(encrypt(torn, "cbc-128")), no
    )


def make() -> str:
    for bits, key in KEYS.items():
        made = hashlib.pbkdf2_hmac("sha256", SECRET.encode(), SALT.encode(), 65_536, bits // 8)
        assert made.hex() == key
    cases = [*good(), *bad()]
    return json.dumps({"keys": KEYS, "cases": cases}, indent=1) + "\n"


if __name__ == "__main__":
    (Path(__file__).parent / "vectors.json").write_text(make(), encoding="utf-8")
