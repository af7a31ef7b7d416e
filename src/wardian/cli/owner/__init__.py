"""`wardian owner`: an owner's keys, and the lines that it signs."""
