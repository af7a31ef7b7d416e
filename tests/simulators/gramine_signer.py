"""A signer of real SIGSTRUCTs, and STAND-INS for Gramine's signing tools where it is not installed.

The signatures are real: RSA-3072, exponent 3, over the layout of Intel's manual, packed here by one
format string that shares nothing with the parser under test. The tools are not Gramine's: they take
the command lines that its manual pages document, and what they call MRENCLAVE is a digest of the
signed manifest. What they show is how Wardian drives such tools and what it does with what they
write; that Gramine's own do the same, a test on real Gramine shows.
"""

import argparse
import functools
import hashlib
import json
import os
import signal
import struct
import sys
import tomllib
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:  # loaded where it is needed: each stand-in is a process of its own
    from cryptography.hazmat.primitives.asymmetric import rsa

LAYOUT = "<16s I 4s 16s I 84s 384s I 384s I I 2s 2s 16s QQ QQ 32s 16s 16s H H 12s 384s 384s"
HEADER = bytes.fromhex("06000000E10000000000010000000000")
HEADER2 = bytes.fromhex("01010000600000006000000001000000")
MODE64BIT, DEBUG = 4, 2
XFRM, XFRM_MASK = 3, 0xFFFFFFFFFFF9FF1B
TOOLS = ("gramine-manifest-check", "gramine-sgx-sign", "gramine-sgx-gen-private-key")


@functools.cache
def signing_key(number: int = 0) -> "rsa.RSAPrivateKey":
    """Return a key of this test run, the same one for the same number."""
    from cryptography.hazmat.primitives.asymmetric import rsa

    return rsa.generate_private_key(public_exponent=3, key_size=3072)


def pem(key: "rsa.RSAPrivateKey") -> bytes:
    from cryptography.hazmat.primitives import serialization

    return key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.TraditionalOpenSSL,
        serialization.NoEncryption(),
    )


def mr_signer(key: "rsa.RSAPrivateKey") -> bytes:
    return hashlib.sha256(key.public_key().public_numbers().n.to_bytes(384, "little")).digest()


def build_sigstruct(
    key: "rsa.RSAPrivateKey",
    *,
    mr_enclave: bytes = b"\x69" * 32,
    product_id: int = 3,
    svn: int = 1,
    date: str = "20260301",
    vendor: int = 0,
    flags: int = MODE64BIT,
    flags_mask: int = 2**64 - 1,
    swdefined: int = 0,
    header: bytes = HEADER,
    header2: bytes = HEADER2,
    reserved: tuple[bytes, bytes, bytes, bytes] = (b"", b"", b"", b""),
    family_id: bytes = b"",
    extended_product_id: bytes = b"",
) -> bytes:
    """Return a SIGSTRUCT that `key` signed, whatever it says."""
    from cryptography.hazmat.primitives import hashes
    from cryptography.hazmat.primitives.asymmetric import padding

    modulus = key.public_key().public_numbers().n

    def pack(number: int, q1: int, q2: int) -> bytes:
        return struct.pack(
            LAYOUT,
            *(header, vendor, bytes.fromhex(date)[::-1], header2, swdefined, reserved[0]),
            *(modulus.to_bytes(384, "little"), 3, number.to_bytes(384, "little")),
            *(0, 0xFFFFFFFF, b"", reserved[1], family_id, flags, XFRM, flags_mask, XFRM_MASK),
            *(mr_enclave, reserved[2], extended_product_id, product_id, svn, reserved[3]),
            *(q1.to_bytes(384, "little"), q2.to_bytes(384, "little")),
        )

    unsigned = pack(0, 0, 0)
    signature = key.sign(unsigned[:128] + unsigned[900:1028], padding.PKCS1v15(), hashes.SHA256())
    number = int.from_bytes(signature, "big")
    q1 = number**2 // modulus
    q2 = (number**3 - q1 * number * modulus) // modulus
    return pack(number, q1, q2)


# --- stand-ins for the tools ------------------------------------------------------------------


def install(folder: Path, **behaviour: object) -> Path:
    """Write the stand-ins into `folder`, which is to be put on PATH; return where calls are noted.

    Args:
        folder: gets one program a tool.
        behaviour: what they do wrong; see `main`.
    """
    folder.mkdir(exist_ok=True)
    (folder / "behaviour.json").write_text(json.dumps(behaviour))
    for tool in TOOLS:
        program = folder / tool
        program.write_text(
            f"#!{sys.executable}\n"
            "import sys\n"
            f"sys.path.insert(0, {str(Path(__file__).parent)!r})\n"
            "from gramine_signer import main\n"
            f"sys.exit(main({tool!r}, sys.argv[1:], {str(folder)!r}))\n"
        )
        program.chmod(0o755)
    return folder / "calls.jsonl"


def main(tool: str, arguments: list[str], folder: str) -> int:
    """Be `tool`. What it does wrong is in the folder's `behaviour.json`."""
    place = Path(folder)
    behaviour = json.loads((place / "behaviour.json").read_text())
    call = {"tool": tool, "argv": arguments, "env": dict(os.environ), "cwd": str(Path.cwd())}
    with (place / "calls.jsonl").open("a") as calls:
        calls.write(json.dumps(call) + "\n")
    if behaviour.get("hangs") == tool:
        signal.pause()
    if behaviour.get("fails") == tool:
        print(
            "Traceback (most recent call last):\nValueError: no such key in slot 3\n",
            file=sys.stderr,
        )
        return 1
    if tool == "gramine-manifest-check":
        return _check_schema(Path(arguments[0]), behaviour)
    if tool == "gramine-sgx-sign":
        return _sign(arguments, place, behaviour)
    return _make_key(Path(arguments[-1]), behaviour)


def _check_schema(manifest: Path, behaviour: dict) -> int:
    """Print what is wrong, like the tool of Gramine 1.8, which ended with status 0 all the same."""
    table = tomllib.loads(manifest.read_text())
    unknown = sorted(set(table) - {"fs", "libos", "loader", "sgx", "sys"})
    if unknown:
        print(f"error in manifest: extra keys not allowed @ data[{unknown[0]!r}]")
    return int(bool(unknown)) if behaviour.get("schema_status", True) else 0


def _make_key(path: Path, behaviour: dict) -> int:
    path.write_bytes(pem(signing_key()))
    path.chmod(0o644 if behaviour.get("open_key") else 0o600)
    print(f"wrote RSA 3072 private key to {path}")
    return 0


def _sign(arguments: list[str], folder: Path, behaviour: dict) -> int:
    parser = argparse.ArgumentParser(allow_abbrev=False)
    parser.add_argument("--with", dest="plugin", default="file", choices=("file", "hsm"))
    parser.add_argument("--manifest", "-m", required=True, type=Path)
    parser.add_argument("--output", "-o", required=True, type=Path)
    parser.add_argument("--sigfile", "-s", type=Path)
    parser.add_argument("--date", default="20260301")
    options, plugin_options = parser.parse_known_args(arguments)
    signed = _with_defaults(tomllib.loads(options.manifest.read_text()))
    for path, value in behaviour.get("edits", {}).items():
        _edit(signed, path.split("."), value)
    options.output.write_text(_toml(signed))
    if behaviour.get("no_signature"):
        return 0
    sgx = signed["sgx"]
    raw = build_sigstruct(
        _plugin_key(options.plugin, plugin_options, folder),
        mr_enclave=hashlib.sha256(b"stand-in" + options.output.read_bytes()).digest(),
        product_id=sgx["isvprodid"] + behaviour.get("product_id_off_by", 0),
        svn=sgx["isvsvn"] + behaviour.get("svn_off_by", 0),
        date=options.date,
        flags=MODE64BIT | (DEBUG if sgx["debug"] or behaviour.get("debug") else 0),
        flags_mask=2**64 - 1 - (DEBUG if behaviour.get("debug_open") else 0),
    )
    changed = bytearray(raw)
    changed[behaviour.get("flip", 0)] ^= "flip" in behaviour
    options.sigfile.write_bytes(changed)
    print("Measurement:\n    (a stand-in's)")
    return 0


def _plugin_key(plugin: str, options: list[str], folder: Path) -> "rsa.RSAPrivateKey":
    from cryptography.hazmat.primitives import serialization

    parser = argparse.ArgumentParser(allow_abbrev=False)
    parser.add_argument("--key" if plugin == "file" else "--hsm-slot", dest="key", required=True)
    named = parser.parse_args(options).key
    path = Path(named) if plugin == "file" else folder / f"slot-{named}"
    return serialization.load_pem_private_key(
        path.read_bytes(), None, unsafe_skip_rsa_key_validation=True
    )  # our own key: the validation takes longer than everything else together


def _with_defaults(table: dict) -> dict:
    """Return what Gramine 1.9 makes of a manifest before it writes it out again."""
    sgx = table.setdefault("sgx", {})
    defaults = {"max_threads": 4, "isvprodid": 0, "isvsvn": 0, "remote_attestation": "none"}
    off = dict.fromkeys(("debug", "enable_stats", "edmm_enable", "use_exinfo"), False)
    for key, value in (defaults | off).items():
        sgx.setdefault(key, value)
    features = sgx.setdefault("cpu_features", {})
    for key in ("avx", "avx512", "amx"):
        features.setdefault(key, "unspecified")
    for key in ("mpx", "pkru"):
        features.setdefault(key, "disabled")
    table["loader"]["entrypoint"].setdefault("sha256", "00" * 32)
    return table


def _edit(table: dict, path: list[str], value: object) -> None:
    """Set what `path` names to `value`; delete it for None; append to a list."""
    *parents, last = path
    for part in parents:
        table = table.setdefault(part, {})
    if value is None:
        del table[last]
    elif isinstance(table.get(last), list) and not isinstance(value, list):
        table[last].append(value)
    else:
        table[last] = value


def _toml(value: object, *, top: bool = True) -> str:
    if isinstance(value, dict):
        pairs = [f"{json.dumps(key)} = {_toml(part, top=False)}" for key, part in value.items()]
        return "".join(f"{pair}\n" for pair in pairs) if top else "{" + ", ".join(pairs) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(_toml(part, top=False) for part in value) + "]"
    return json.dumps(value, ensure_ascii=False)
