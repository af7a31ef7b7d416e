"""The names that a sealed request has on HTTP: for the client and the front end alike."""

from typing import Final

REQUEST_TYPE: Final = b"application/vnd.wardian.sealed-request"
ANSWER_TYPE: Final = b"application/vnd.wardian.sealed-answer"
TIMEOUT_HEADER: Final = b"Wardian-Timeout-Ms"
"""The client's deadline, which the front end has to know: milliseconds from when it has all."""
MAX_TIMEOUT_MS: Final = 86_400_000
KEY_OVER: Final = "request_key_over"
"""The error code of `RequestKeyOver`, status 409."""
