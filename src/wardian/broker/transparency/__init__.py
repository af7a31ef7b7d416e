"""The audit log before strangers: signed heads, proofs, witnesses, and who demands them."""
