"""What reading a hostile certificate may raise."""

from typing import Final

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm

X509_ERRORS: Final[tuple[type[Exception], ...]] = (
    ValueError,
    TypeError,
    OverflowError,
    NotImplementedError,
    UnsupportedAlgorithm,
    x509.InvalidVersion,
    x509.DuplicateExtension,
    x509.ExtensionNotFound,
    x509.AttributeNotFound,
    x509.UnsupportedGeneralNameType,
    UserWarning,
)
"""What `cryptography` may raise on hostile X.509, when it loads and later: names, times, keys and
extensions are parsed when they are read. Its errors have no common base. The warnings are about
what it reads though no certificate should have it; a filter may make errors of them."""
