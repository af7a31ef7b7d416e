import base64
import hashlib
import json

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, ed25519
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from hypothesis import given
from hypothesis import strategies as st
from simulators.kbs_client import TeeKeyPair

from wardian.crypto.jose import (
    ECDH_ES_A256KW,
    MAX_TOKEN_CHARS,
    concat_kdf,
    jwk_of,
    parse_jwk,
    seal_jwe,
    sign_jws,
    verify_jws,
)
from wardian.crypto.secret import Secret
from wardian.crypto.strict_text import b64url, from_b64url, parse_json
from wardian.crypto.tls_keys import TlsKey
from wardian.errors import AuthenticationFailed, FormatError

KEY = TlsKey.generate()
TYP = "JWT"
PAYLOAD = b'{"iss":"joe"}'


def jwk(**changes):
    return TeeKeyPair().public() | changes


def spki(private):
    return private.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)


def recipient(pair):
    return parse_jwk(pair.public(), alg=ECDH_ES_A256KW)


# Vectors

RFC_7515_A3 = (
    "eyJhbGciOiJFUzI1NiJ9"
    ".eyJpc3MiOiJqb2UiLA0KICJleHAiOjEzMDA4MTkzODAsDQogImh0dHA6Ly9leGFtcGxlLmNvbS9pc19yb290Ijp0cnVlfQ"
    ".DtEhU3ljbEg8L38VWAfUAqOyKAM6-Xx-F4GawxaepmXFCgfTjDxw5djxLa8ISlSApmWQxfKTUJqPP3-Kg6NU1Q"
)
RFC_7515_A3_KEY = {
    "kty": "EC",
    "crv": "P-256",
    "alg": "ES256",
    "x": "f83OJ3D2xF1Bg8vub9tLe1gHMzV76e8Tus9uPHvRVEU",
    "y": "x_FEzRu9m36HLN_tue659LNpXW6pCyStikYjKIWI5a0",
}


def test_rfc_7515_appendix_a3():
    key = parse_jwk(RFC_7515_A3_KEY, alg="ES256")
    payload = verify_jws(RFC_7515_A3, spki=key.spki, typ=None, kid=None)
    assert json.loads(payload)["iss"] == "joe"


def test_rfc_7518_appendix_c():
    """ECDH with Concat KDF, of another algorithm and length than ours, and with both parties."""

    def private(d):
        return ec.derive_private_key(
            int.from_bytes(from_b64url(d, what="d"), "big"), ec.SECP256R1()
        )

    alice = private("0_NxaRPUMQoAJt50Gz8YiTr8gRTwyEaCumd-MToTmIo")
    bob = private("VEmDZpDXXK8p8N0Cndsxs924q6nS1RXFASRl6BfUqdw")
    assert jwk_of(spki(bob)).members["x"] == "weNJy2HscCSM6AEDTDg04biOvhFhyyWvOHQfeF_PxMQ"
    shared = alice.exchange(ec.ECDH(), jwk_of(spki(bob)).key)
    found = concat_kdf(shared, algorithm="A128GCM", length=16, apu=b"Alice", apv=b"Bob")
    assert b64url(found) == "VqqN6vgjbSBcIijNcacQGg"


def test_a_thumbprint_is_over_the_required_members_in_their_order():
    key = jwk_of(KEY.spki)
    x, y = key.members["x"], key.members["y"]
    text = f'{{"crv":"P-256","kty":"EC","x":"{x}","y":"{y}"}}'
    expected = base64.urlsafe_b64encode(hashlib.sha256(text.encode()).digest()).rstrip(b"=")
    assert key.thumbprint == expected.decode()


# Keys


def test_a_jwk_says_the_key_that_it_was_made_of():
    pair = TeeKeyPair()
    assert recipient(pair).spki == spki(pair.private)
    assert recipient(pair) == jwk_of(spki(pair.private))


@pytest.mark.parametrize(
    "value",
    [
        pytest.param([], id="no object"),
        pytest.param(jwk(d="AA"), id="with a private part"),
        pytest.param(jwk(kid="me"), id="with another member"),
        pytest.param(jwk(x5c=[]), id="with certificates"),
        pytest.param({k: v for k, v in jwk().items() if k != "alg"}, id="without alg"),
        pytest.param(jwk(kty="RSA"), id="RSA"),
        pytest.param(jwk(kty="OKP"), id="OKP"),
        pytest.param(jwk(crv="P-384"), id="another curve"),
        pytest.param(jwk(crv="secp256k1"), id="a curve of the same length"),
        pytest.param(jwk(alg="RSA1_5"), id="another algorithm"),
        pytest.param(jwk(alg="ECDH-ES"), id="without key wrap"),
        pytest.param(jwk(alg=None), id="no algorithm"),
        pytest.param(jwk(alg=["ECDH-ES+A256KW"]), id="a list of algorithms"),
        pytest.param(jwk(x=7), id="a number"),
        pytest.param(jwk(x=""), id="an empty coordinate"),
        pytest.param(jwk(x=b64url(bytes(31))), id="a short coordinate"),
        pytest.param(jwk(x=b64url(b"\0" + bytes(32))), id="a long coordinate"),
        pytest.param(jwk(x=b64url(bytes(32)), y=b64url(bytes(32))), id="the point at infinity"),
        pytest.param(jwk(y=b64url(bytes(31) + b"\1")), id="not on the curve"),
        pytest.param(jwk(x=b64url(b"\xff" * 32)), id="beyond the field"),
        pytest.param(jwk(x=jwk()["x"] + "="), id="padded"),
    ],
)
def test_a_jwk_that_is_not_exactly_the_one_kind_is_refused(value):
    with pytest.raises(FormatError, match="JWK"):
        parse_jwk(value, alg=ECDH_ES_A256KW)


def test_a_point_beside_the_curve_is_refused():
    """The invalid-curve attack: both coordinates are in the field, and do not belong together."""
    pair = jwk()
    for low in range(256):
        x = from_b64url(pair["x"], what="x")[:-1] + bytes([low])
        try:
            parse_jwk(pair | {"x": b64url(x)}, alg=ECDH_ES_A256KW)
        except FormatError:
            continue
        assert b64url(x) == pair["x"]


@pytest.mark.parametrize(
    "der",
    [
        pytest.param(b"no key", id="garbage"),
        pytest.param(spki(ed25519.Ed25519PrivateKey.generate()), id="Ed25519"),
        pytest.param(spki(ec.generate_private_key(ec.SECP384R1())), id="P-384"),
    ],
)
def test_only_p256_becomes_a_jwk(der):
    with pytest.raises(FormatError, match="JWK"):
        jwk_of(der)


# Signatures


def sign(payload=PAYLOAD, key=KEY, **header):
    return sign_jws(payload, key=key, header={"typ": TYP, "kid": "k"} | header)


def verify(token, key=KEY, typ=TYP, kid="k"):
    return verify_jws(token, spki=key.spki, typ=typ, kid=kid)


def forge(header, payload=PAYLOAD, key=KEY, signature=None):
    """Sign any header, as text."""
    signed = f"{b64url(header.encode())}.{b64url(payload)}"
    if signature is None:
        good = sign_jws(payload, key=key, header={})
        signature = resign(signed, key) if key else good.split(".")[2]
    return f"{signed}.{signature}"


def resign(signed, key):
    from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature

    r, s = decode_dss_signature(key.sign(signed.encode()))
    return b64url(r.to_bytes(32, "big") + s.to_bytes(32, "big"))


def test_what_was_signed_verifies():
    assert verify(sign()) == PAYLOAD
    assert verify(forge('{"alg":"ES256","typ":"JWT","kid":"k"}')) == PAYLOAD


def test_every_bit_flip_of_a_token_is_refused():
    token = sign()
    for position in range(len(token)):
        for bit in range(7):
            forged = token[:position] + chr(ord(token[position]) ^ 1 << bit) + token[position + 1 :]
            with pytest.raises((FormatError, AuthenticationFailed)):
                verify(forged)


def hs256(spki_as_secret):
    import hmac

    header = b'{"alg":"HS256","typ":"JWT","kid":"k"}'
    signed = f"{b64url(header)}.{b64url(PAYLOAD)}"
    tag = hmac.digest(spki_as_secret, signed.encode(), "sha256")
    return f"{signed}.{b64url(tag)}"


@pytest.mark.parametrize(
    ("token", "error"),
    [
        pytest.param(
            forge('{"alg":"none","typ":"JWT","kid":"k"}', signature=""),
            AuthenticationFailed,
            id="alg none without a signature",
        ),
        pytest.param(
            forge('{"alg":"none","typ":"JWT","kid":"k"}'), AuthenticationFailed, id="alg none"
        ),
        pytest.param(
            forge('{"alg":"es256","typ":"JWT","kid":"k"}'), AuthenticationFailed, id="lower case"
        ),
        pytest.param(hs256(KEY.spki), AuthenticationFailed, id="HS256 under the public key"),
        pytest.param(sign(key=TlsKey.generate()), AuthenticationFailed, id="another key"),
        pytest.param(sign(kid="other"), AuthenticationFailed, id="another kid"),
        pytest.param(sign(typ="at+jwt"), AuthenticationFailed, id="another type"),
        pytest.param(
            sign(jwk=json.dumps(jwk_of(KEY.spki).members)), FormatError, id="brings its key"
        ),
        pytest.param(sign(crit="x"), FormatError, id="a critical header"),
        pytest.param(
            forge('{"alg":"ES256","alg":"ES256","typ":"JWT","kid":"k"}'),
            FormatError,
            id="a name twice",
        ),
        pytest.param(forge('{"alg":"ES256","typ":"JWT"}'), FormatError, id="no kid"),
        pytest.param(forge('"ES256"'), FormatError, id="no object"),
        pytest.param(forge("{"), FormatError, id="no JSON"),
        pytest.param(
            forge('{"alg":"ES256","typ":"JWT","kid":"k"}', signature=b64url(bytes(64))),
            AuthenticationFailed,
            id="the signature of zeros",
        ),
        pytest.param(
            forge('{"alg":"ES256","typ":"JWT","kid":"k"}', signature=b64url(b"\xff" * 64)),
            AuthenticationFailed,
            id="beyond the order",
        ),
        pytest.param(
            forge('{"alg":"ES256","typ":"JWT","kid":"k"}', signature=b64url(KEY.sign(b"x"))),
            FormatError,
            id="a signature in DER",
        ),
        pytest.param("a.b", FormatError, id="two parts"),
        pytest.param("a.b.c.d.e", FormatError, id="five parts, as JWE"),
        pytest.param("", FormatError, id="empty"),
        pytest.param(sign() + "=", FormatError, id="padding"),
        pytest.param("." * (MAX_TOKEN_CHARS + 1), FormatError, id="too long"),
        pytest.param(sign().replace(".", ".\n", 1), AuthenticationFailed, id="white space"),
    ],
)
def test_a_token_that_is_not_this_keys_in_this_form_is_refused(token, error):
    with pytest.raises(error):
        verify(token)


def test_no_kid_and_no_type_are_accepted_only_where_none_are_due():
    token = sign_jws(PAYLOAD, key=KEY, header={})
    assert verify(token, typ=None, kid=None) == PAYLOAD
    with pytest.raises(FormatError):
        verify(sign(), typ=None, kid=None)


# Encryption


@given(st.binary(min_size=1, max_size=200))
def test_a_client_of_the_kbs_protocol_reads_what_was_sealed_to_it(plaintext):
    pair = TeeKeyPair()
    sealed = seal_jwe(Secret(plaintext), recipient=recipient(pair))
    assert pair.decrypt_response(json.dumps(sealed).encode()) == plaintext


def test_the_header_is_in_the_spelling_that_clients_authenticate():
    sealed = seal_jwe(Secret(b"x"), recipient=recipient(TeeKeyPair()))
    header = from_b64url(sealed["protected"], what="header").decode()
    epk = json.loads(header)["epk"]
    assert header == (
        '{"alg":"ECDH-ES+A256KW","enc":"A256GCM","epk":{"crv":"P-256","kty":"EC",'
        f'"x":"{epk["x"]}","y":"{epk["y"]}"}}}}'
    )
    assert set(sealed) == {"protected", "encrypted_key", "iv", "ciphertext", "tag"}


def test_every_key_and_nonce_is_fresh():
    to = recipient(TeeKeyPair())
    first, second = (seal_jwe(Secret(b"the same"), recipient=to) for _ in range(2))
    assert all(first[name] != second[name] for name in first)


@pytest.mark.parametrize("name", ["protected", "encrypted_key", "iv", "ciphertext", "tag"])
def test_every_bit_flip_of_what_was_sealed_is_noticed(name):
    pair = TeeKeyPair()
    sealed = seal_jwe(Secret(b"a secret"), recipient=recipient(pair))
    raw = from_b64url(sealed[name], what=name)
    for bit in range(8 * len(raw)):
        flipped = bytearray(raw)
        flipped[bit // 8] ^= 1 << bit % 8
        changed = sealed | {name: b64url(bytes(flipped))}
        with pytest.raises(Exception, match=".*"):  # whatever the client's libraries say
            pair.decrypt_response(json.dumps(changed).encode())


def test_somebody_else_reads_nothing():
    sealed = seal_jwe(Secret(b"a secret"), recipient=recipient(TeeKeyPair()))
    with pytest.raises(Exception, match=".*"):
        TeeKeyPair().decrypt_response(json.dumps(sealed).encode())


# Text


@given(st.binary(max_size=100))
def test_base64url_has_one_spelling(raw):
    text = b64url(raw)
    assert from_b64url(text, what="it") == raw
    assert "=" not in text


@pytest.mark.parametrize("text", ["A", "AAAAA", "AB", "AAB", "AA==", "AA=", "+/8", "A\n", " ", 7])
def test_base64url_in_another_spelling_is_refused(text):
    with pytest.raises(FormatError, match="it: "):
        from_b64url(text, what="it")


@pytest.mark.parametrize(
    "raw",
    [
        b'{"a":1,"a":1}',
        b'{"a":{"b":1,"b":2}}',
        b'[{"\\u0061":1,"a":2}]',
        b"1.0",
        b"1e3",
        b"[NaN]",
        b"Infinity",
        b"-Infinity",
        b'"\\ud800"',
        b'"\xff"',
        b"\xef\xbb\xbf{}",
        b"{}x",
        b"",
        b"[" * 100_000,
        b"1" * 5000,
    ],
)
def test_json_on_which_two_readers_differ_is_refused(raw):
    with pytest.raises(FormatError, match="it: "):
        parse_json(raw, what="it")


def test_other_json_is_read():
    text = '{"a":[1,-2,true,null,"ü"],"b":{"a":"\\ud83d\\ude00"}}'
    assert parse_json(text.encode(), what="it") == json.loads(text)
