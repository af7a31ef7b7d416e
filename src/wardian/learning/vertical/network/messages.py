"""Names of the records of a split network's messages; what is in a record has the same name."""

from typing import Final

LABELS: Final = "labels"
ROWS: Final = "rows"
EMBEDDING: Final = "embedding"
SLOPES: Final = "slopes"
