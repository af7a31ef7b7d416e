"""PEM in one form: what RFC 7468 lets a reader skip, nobody skips here."""

import base64
import secrets

import pytest

from wardian.attestation.certificates.pem_chain import parse_pem_chain, render_pem_chain
from wardian.errors import FormatError

CHAIN = (secrets.token_bytes(600), secrets.token_bytes(601), secrets.token_bytes(48))
TEXT = render_pem_chain(CHAIN)
BEGIN, END = b"-----BEGIN CERTIFICATE-----\n", b"-----END CERTIFICATE-----\n"


def parse(text, count=3):
    return parse_pem_chain(text, count=count, what="quote")


def test_round_trip():
    assert parse(TEXT) == CHAIN
    assert parse(render_pem_chain(CHAIN[:2]), 2) == CHAIN[:2]


def test_it_is_the_form_that_openssl_writes(platform):
    import ssl

    assert render_pem_chain((platform.root_der,)).decode() == ssl.DER_cert_to_PEM_cert(
        platform.root_der
    )


@pytest.mark.parametrize("count", [1, 2, 4])
def test_another_number_of_certificates(count):
    with pytest.raises(FormatError, match=f"3 certificates, {count} expected"):
        parse(TEXT, count)


@pytest.mark.parametrize(
    "altered",
    [
        b"text\n" + TEXT,
        b"\n" + TEXT,
        TEXT + b"text",
        TEXT + b"\n",
        TEXT + b"\0",
        TEXT[:-1],
        TEXT.replace(b"\n", b"\r\n"),
        TEXT.replace(BEGIN, b"\n" + BEGIN),
        TEXT.replace(END, END + b"text\n", 1),
        TEXT.replace(END, b"\n" + END, 1),
        TEXT.replace(BEGIN, BEGIN.replace(b"CERTIFICATE", b"X509 CERTIFICATE"), 1),
        TEXT.replace(b"\n", b"", 2),
        TEXT.replace(b"A", b"A ", 1),
        b"".join(BEGIN + base64.b64encode(der) + b"\n" + END for der in CHAIN),
        b"".join(BEGIN + base64.encodebytes(der) + END for der in CHAIN),  # lines of 76
        b"",
        b"\0" * 100,
        BEGIN,
    ],
)
def test_every_other_form_is_refused(altered):
    with pytest.raises(FormatError):
        parse(altered)


def test_bits_of_base64_that_mean_nothing():
    """The last character before `==` has four bits that no byte takes up."""
    one = BEGIN + b"AA==\n" + END
    assert parse(one * 3) == (b"\0",) * 3
    with pytest.raises(FormatError):
        parse(one * 2 + BEGIN + b"AB==\n" + END)


def test_text_that_is_not_base64():
    with pytest.raises(FormatError, match="not valid base64"):
        parse((BEGIN + b"AAAAA\n" + END) * 3)
