"""Names of the records of a regression's messages; what is in a record has the same name."""

from typing import Final

FEATURES: Final = "features"
LABELS: Final = "labels"
CURVATURE: Final = "curvature"
STEEPNESS: Final = "steepness"
L2: Final = "l2"
PARTIAL: Final = "partial"
ERRORS: Final = "errors"
WEIGHTS: Final = "weights"
