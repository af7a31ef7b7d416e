"""Names of the records of `ecdh`'s messages; what is in a record has the same name."""

from typing import Final

SETUP: Final = "setup"
REQUEST: Final = "request"
ANSWER: Final = "answer"
