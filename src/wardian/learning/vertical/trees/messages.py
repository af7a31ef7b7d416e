"""Names of the records of the messages about trees; what is in a record has the same name."""

from typing import Final

BINS: Final = "bins"
LABELS: Final = "labels"
SPLITS: Final = "splits"
SIDES: Final = "sides"
