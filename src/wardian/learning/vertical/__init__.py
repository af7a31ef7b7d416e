"""Vertical learning: parties with different columns of the same records train one model.

Records are aligned before (`learning.psi`). One party has the labels. What leaves a party is chosen
by name, the placement, and so is what the others learn of it:

| placement | leaves a party | comes to a party |
|---|---|---|
| `features` | its columns, sealed for the enclave | its own coefficients, once, at the end |
| `embeddings` | numbers made of its columns, a few a record | a noised gradient a record |
| `bins` | which of 255 ranges each value lies in | the (feature, bin) pairs of its splits |

Labels go to the enclave and to nobody else. What a party is sent depends on them all the same:
- `features`, `bins`: through the finished model alone. Whoever has a part of a model has what this
  part says about everybody, the records that it was made of included; it says no more about them
  than a model that was fitted to few records does.
- `embeddings`: each gradient is its record's error, so a single clear one tells the label. The
  noise bounds what all of them together tell: see `vertical.noise`. It protects labels alone: the
  gradients also depend on what the other parties sent, and that dependence is not bounded.

A gradient never leaves the enclave without noise, but for tests (`vertical.unsafe_no_noise`).
"""
