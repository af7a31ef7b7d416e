"""Writes `vectors.json`: sealed files of format version 1, good ones and attacks.

    python tests/vectors/sealed-file/make.py

It follows `docs/reference/sealed-file.md` and imports nothing of Wardian, so that the page, this
script and the library check each other. All randomness is SHA-256 over a label: the output is
the same everywhere. The vectors are frozen; a test fails if this script stops making them.
"""

import base64
import hashlib
import hmac
import json
import struct
from pathlib import Path

import hpke_reference
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.kdf.scrypt import Scrypt
from cryptography.hazmat.primitives.keywrap import aes_key_wrap

CHUNK = 4096


def fixed(label, length=32):
    """Return `length` bytes that depend on `label` alone."""
    blocks = (hashlib.sha256(f"{label} {i}".encode()).digest() for i in range(length // 32 + 1))
    return b"".join(blocks)[:length]


def hkdf(key, salt, info):
    prk = hmac.digest(salt or bytes(32), key, "sha256")
    return hmac.digest(prk, info + b"\x01", "sha256")


# --- recipients: each returns (kind, body) -------------------------------------------------------

FILE_KEY = fixed("file key")
BROKER_KEY = fixed("broker key")
HPKE_KEY = fixed("hpke private key")
PASSPHRASE = b"correct horse battery staple"


def broker(key=BROKER_KEY, file_key=FILE_KEY):
    key_id = hashlib.sha256(b"wardian broker key id v1\x00" + key).digest()[:16]
    kek = hkdf(key, b"", b"wardian sealed-file v1 broker key")
    return 1, key_id + aes_key_wrap(kek, file_key)


def hpke(private=HPKE_KEY):
    public = X25519PrivateKey.from_private_bytes(private).public_key().public_bytes_raw()
    info = b"wardian sealed-file v1 hpke"
    return 2, hpke_reference.seal(public, FILE_KEY, info=info, ephemeral=fixed("ephemeral"))


def passphrase(words=PASSPHRASE, log2_n=15, stated=None):
    salt = fixed("scrypt salt", 16)
    labelled = b"wardian sealed-file v1 passphrase\x00" + salt
    kek = Scrypt(salt=labelled, length=32, n=1 << log2_n, r=8, p=1).derive(words)
    return 3, salt + bytes((stated or log2_n,)) + aes_key_wrap(kek, FILE_KEY)


# --- the format ----------------------------------------------------------------------------------


def body(
    *,
    file_id=None,
    chunk_log2=12,
    total,
    version=1,
    media_type=b"application/onnx",
    name=b"digits",
    stanzas=None,
    count=None,
    tail=b"",
):
    stanzas = [broker()] if stanzas is None else stanzas
    out = (fixed("file id", 16) if file_id is None else file_id) + struct.pack(
        ">BQQ", chunk_log2, total, version
    )
    for text in (media_type, name):
        out += bytes((len(text),)) + text
    out += bytes((len(stanzas) if count is None else count,))
    for kind, content in stanzas:
        out += struct.pack(">BH", kind, len(content)) + content
    return out + tail


def signed(content, *, magic=b"wardian\x00", version=1, length=None):
    return magic + struct.pack(">HI", version, len(content) if length is None else length) + content


def with_mac(front, file_key=FILE_KEY):
    mac_key = hkdf(file_key, b"", b"wardian sealed-file v1 header")
    return front + hmac.digest(mac_key, front, "sha256")


def chunks(header, plaintext, *, chunk=CHUNK, file_key=FILE_KEY, never_last=False):
    """Return the sealed chunks behind `header` as a list."""
    digest = hashlib.sha256(header).digest()
    cipher = AESGCM(hkdf(file_key, digest, b"wardian sealed-file v1 payload"))
    pieces = [plaintext[i : i + chunk] for i in range(0, len(plaintext), chunk)] or [b""]
    out = []
    for index, piece in enumerate(pieces):
        last = index == len(pieces) - 1 and not never_last
        nonce = index.to_bytes(11, "big") + bytes((last,))
        out.append(cipher.encrypt(nonce, piece, digest))
    return out


def pin_of(header, last_tag):
    return f"wardian-pin-v1:{hashlib.sha256(header).hexdigest()}:{last_tag.hex()}"


# --- cases ---------------------------------------------------------------------------------------

CASES = []
IDENTITY = {"broker_key": BROKER_KEY.hex()}


def case(title, expect, raw, pin, *, plaintext=None, identity=None, comment, **asked):
    entry = {
        "case": title,
        "comment": comment,
        "expect": expect,
        "identity": identity or IDENTITY,
        "media_type": "application/onnx",
        "name": "digits",
        "version": 1,
        "pin": pin,
        "sealed": base64.b64encode(raw).decode(),
    } | asked
    if plaintext is not None:
        entry["plaintext_sha256"] = hashlib.sha256(plaintext).hexdigest()
        entry["plaintext_bytes"] = len(plaintext)
    CASES.append(entry)


def sealed(length, **changes):
    """Return plaintext, header, chunks and pin of a good file."""
    plaintext = fixed("plaintext", length)
    header = with_mac(signed(body(total=length, **changes)))
    parts = chunks(header, plaintext, chunk=1 << changes.get("chunk_log2", 12))
    return plaintext, header, parts, pin_of(header, parts[-1][-16:])


def good(title, length, *, identity=None, asked=None, comment, **changes):
    plaintext, header, parts, pin = sealed(length, **changes)
    raw = header + b"".join(parts)
    case(
        title,
        "ok",
        raw,
        pin,
        plaintext=plaintext,
        identity=identity,
        comment=comment,
        **asked or {},
    )


def good_files():
    good("empty", 0, comment="one empty last chunk")
    good("one-byte", 1, comment="the shortest content")
    good("small", 300, comment="one short chunk")
    good("one-chunk", CHUNK, comment="exactly one full chunk, which is the last")
    good("two-chunks", 2 * CHUNK, comment="no empty chunk follows the second full one")
    good("three-chunks", 2 * CHUNK + 100, comment="the last chunk is short")
    good("largest-chunk", 300, chunk_log2=24, comment="chunks of 16 MiB")
    good("version-0", 10, version=0, asked={"version": 0}, comment="the smallest version")
    top = 2**63 - 1
    good("version-max", 10, version=top, asked={"version": top}, comment="the largest version")
    name = "größe-模型"
    good("name-utf8", 10, name=name.encode(), asked={"name": name}, comment="compared as it stands")
    long = "n" * 255
    good("name-longest", 10, name=long.encode(), asked={"name": long}, comment="255 bytes")
    private = {"hpke_private": HPKE_KEY.hex()}
    words = {"passphrase": PASSPHRASE.decode()}
    good("hpke", 100, stanzas=[hpke()], identity=private, comment="X25519 recipient")
    good("passphrase", 100, stanzas=[passphrase()], identity=words, comment="scrypt, N = 2**15")
    everyone = [broker(fixed("other key")), broker(), hpke(), passphrase()]
    for which, identity in (("broker", IDENTITY), ("hpke", private), ("passphrase", words)):
        good(
            f"four-recipients-{which}",
            100,
            stanzas=everyone,
            identity=identity,
            comment="each of the recipients opens the whole",
        )
    crowd = [broker(fixed(f"key {i}")) for i in range(31)] + [broker()]
    good("32-recipients", 100, stanzas=crowd, comment="as many as there may be; the last is ours")


def wrong_keys_and_pins():
    plaintext, header, parts, pin = sealed(300)
    raw = header + b"".join(parts)
    other = {"broker_key": fixed("other key").hex()}
    case("wrong-broker-key", "WrongRecipient", raw, pin, identity=other, comment="another key id")
    _, h, p, its_pin = sealed(100, stanzas=[hpke()])
    stranger = {"hpke_private": fixed("stranger").hex()}
    case("wrong-hpke-key", "WrongRecipient", h + p[0], its_pin, identity=stranger, comment="")
    _, h, p, its_pin = sealed(100, stanzas=[passphrase()])
    words = {"passphrase": "incorrect"}
    case("wrong-passphrase", "WrongRecipient", h + p[0], its_pin, identity=words, comment="")

    twin = with_mac(signed(body(total=300, file_id=fixed("twin", 16))))
    case(
        "another-file",
        "AuthenticationFailed",
        twin + chunks(twin, plaintext)[0],
        pin,
        comment="sealed to the same key under the same name by somebody else (TRUST T14)",
    )
    old = pin_of(header, fixed("another tag", 16))
    case("another-tag", "AuthenticationFailed", raw, old, comment="header pinned with another end")
    case(
        "renamed", "AuthenticationFailed", raw, pin, name="fraud", comment="asked as another model"
    )
    case("other-version", "AuthenticationFailed", raw, pin, version=2, comment="asked as version 2")
    media = "application/octet-stream"
    case("other-type", "AuthenticationFailed", raw, pin, media_type=media, comment="asked as bytes")
    case("flipped-header", "AuthenticationFailed", flip(raw, 40), pin, comment="bit 0 of byte 40")
    case("flipped-payload", "AuthenticationFailed", flip(raw, len(header)), pin, comment="")
    case("flipped-tag", "AuthenticationFailed", flip(raw, len(raw) - 1), pin, comment="")


def flip(raw, at):
    return raw[:at] + bytes((raw[at] ^ 1,)) + raw[at + 1 :]


def moved_chunks():
    _, header, (first, second, third), pin = sealed(2 * CHUNK + 100)

    def attack(name, *parts, expect="AuthenticationFailed", comment):
        case(name, expect, header + b"".join(parts), pin, comment=comment)

    attack("swapped", second, first, third, comment="chunks 0 and 1 exchanged")
    attack("repeated", first, first, third, comment="chunk 0 again in the place of chunk 1")
    cut = "FormatError"
    attack("dropped", first, third, expect=cut, comment="chunk 1 left out")
    attack("cut-at-chunk", first, second, expect=cut, comment="ends where a chunk ends")
    attack("cut-in-chunk", first, second[:99], expect=cut, comment="ends within a chunk")
    attack("cut-in-tag", first, second, third[:-1], expect=cut, comment="the last byte is missing")
    attack("no-chunks", expect=cut, comment="the header alone")
    attack("trailing-byte", first, second, third, b"\x00", expect=cut, comment="one byte more")
    attack("trailing-chunk", first, second, third, third, expect=cut, comment="the end twice")


def pinned_attacks():
    """The pin itself names the attacked file: only the format's own checks stand in the way."""

    def repinned(name, header, parts, *, expect="AuthenticationFailed", comment):
        raw = header + b"".join(parts)
        case(name, expect, raw, pin_of(header, raw[-16:]), comment=f"pinned; {comment}")

    plaintext, header, parts, _ = sealed(300)
    repinned("pinned-flipped-mac", flip(header, len(header) - 1), parts, comment="MAC changed")
    repinned("pinned-flipped-id", flip(header, 14), parts, comment="file id changed, MAC not")
    at_key = len(header) - 32 - 1
    repinned(
        "pinned-flipped-key",
        flip(header, at_key),
        parts,
        expect="WrongRecipient",
        comment="the wrapped file key changed: it no longer unwraps",
    )
    repinned("pinned-flipped-payload", header, [flip(parts[0], 0)], comment="ciphertext changed")
    repinned("pinned-flipped-tag", header, [flip(parts[0], 315)], comment="last tag changed")
    front = signed(body(total=300, stanzas=[broker(file_key=fixed("planted key"))]))
    repinned(
        "pinned-other-file-key",
        with_mac(front),
        chunks(with_mac(front), plaintext),
        comment="the stanza wraps a file key that the MAC was not made with",
    )
    twin = with_mac(signed(body(total=300, file_id=fixed("twin", 16))))
    repinned("pinned-spliced", header, chunks(twin, plaintext), comment="chunks of another header")
    endless = chunks(header, plaintext, never_last=True)
    repinned("pinned-no-last-flag", header, endless, comment="last chunk not sealed as the last")
    for name, says, has, expect in (
        ("pinned-says-less", CHUNK, 2 * CHUNK, "AuthenticationFailed"),
        ("pinned-says-more", 2 * CHUNK, CHUNK, "AuthenticationFailed"),
        ("pinned-says-more-in-chunk", 300, 200, "FormatError"),
    ):
        lie = with_mac(signed(body(total=says)))
        pieces = chunks(lie, fixed("plaintext", has))
        repinned(name, lie, pieces, expect=expect, comment=f"says {says} bytes, has {has}")
    empty_end = with_mac(signed(body(total=CHUNK)))
    first, last = chunks(empty_end, plaintext[:0].ljust(CHUNK, b"x") + b"y")
    repinned(
        "pinned-extra-chunk",
        empty_end,
        [first, last],
        comment="a full chunk that is not the last, then a short one behind the stated length",
    )


def malformed_headers():
    """Each is pinned as it stands and has the right MAC, where it has one at all."""

    def bad(name, front, *, expect="FormatError", comment):
        header = with_mac(front)
        parts = chunks(header, fixed("plaintext", 10))
        case(name, expect, header + parts[0], pin_of(header, parts[0][-16:]), comment=comment)

    plain = body(total=10)
    bad("bad-magic", signed(plain, magic=b"wardian\x01"), comment="not a sealed file")
    for version in (0, 2, 65535):
        bad(
            f"format-version-{version}",
            signed(plain, version=version),
            expect="UnsupportedAlgorithm",
            comment="a version that is not 1",
        )
    bad("giant-header", signed(plain, length=2**32 - 1), comment="refused before it is read")
    bad("long-header", signed(plain + bytes(8193 - len(plain))), comment="8193 bytes of body")
    bad("short-header", signed(plain[:-1]), comment="the last stanza lacks a byte")
    bad("header-tail", signed(plain + b"\x00"), comment="a byte behind the last stanza")
    bad("empty-header", signed(b""), comment="no body")
    bad("no-recipients", signed(body(total=10, stanzas=[])), comment="nobody could open it")
    crowd = [broker(fixed(f"key {i}")) for i in range(32)] + [broker()]
    bad("33-recipients", signed(body(total=10, stanzas=crowd)), comment="one more than allowed")
    bad("count-too-low", signed(body(total=10, stanzas=[broker()] * 2, count=1)), comment="")
    bad("count-too-high", signed(body(total=10, count=2)), comment="")
    unknown = signed(body(total=10, stanzas=[broker(), (4, b"?")]))
    bad("unknown-recipient", unknown, expect="UnsupportedAlgorithm", comment="kind 4")
    kind, content = broker()
    longer = signed(body(total=10, stanzas=[(kind, content + b"\x00")]))
    bad("long-stanza", longer, comment="a broker stanza has 56 bytes")
    both = signed(body(total=10, stanzas=[passphrase(), passphrase()]))
    bad("two-passphrases", both, comment="each would cost the opener a scrypt")
    for log2_n in (14, 21, 63):
        bomb = signed(body(total=10, stanzas=[broker(), passphrase(stated=log2_n)]))
        bad(f"scrypt-{log2_n}", bomb, comment="work factor outside 15 to 20")
    for log2 in (0, 11, 25, 255):
        bad(f"chunk-log2-{log2}", signed(body(total=10, chunk_log2=log2)), comment="not 12 to 24")
    bad("giant-length", signed(body(total=2**48 + 1)), comment="more than 2**48 bytes")
    bad("giant-version", signed(body(total=10, version=2**63)), comment="more than 2**63 - 1")
    for name, text in (
        ("empty", b""),
        ("newline", b"digits\n"),
        ("bidi", "digits\u202e".encode()),
        ("not-utf8", b"\xff"),
        ("surrogate", b"\xed\xa0\x80"),
    ):
        bad(f"name-{name}", signed(body(total=10, name=text)), comment="not a name")
    for name, text in (
        ("empty", b""),
        ("upper-case", b"Application/onnx"),
        ("no-subtype", b"application/"),
        ("parameter", b"text/plain;charset=utf-8"),
    ):
        bad(f"media-type-{name}", signed(body(total=10, media_type=text)), comment="not a type")


def make():
    """Return the text of `vectors.json`."""
    CASES.clear()
    good_files()
    wrong_keys_and_pins()
    moved_chunks()
    pinned_attacks()
    malformed_headers()
    return json.dumps(CASES, indent=1, ensure_ascii=False) + "\n"


if __name__ == "__main__":
    target = Path(__file__).with_name("vectors.json")
    target.write_text(make(), encoding="utf-8")
    print(f"{target}: {len(CASES)} cases")
