"""The values that the tests of this room agree on."""

import hashlib

NOW = 1_800_000_000
MEASUREMENT = hashlib.sha256(b"an enclave").digest()
REPORT_DATA = hashlib.sha512(b"what it vouches for").digest()
