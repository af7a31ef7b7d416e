"""Private set intersection: which records several parties have in common, and nothing else.

Each party tags its identifiers under a key that the parties agreed and the coordinator does not
know; the coordinator intersects the tags of all parties at once.

What each sees:
- a party: how many of its records all parties have, and which. Not which of them some other party
  has, nor how many the others have in all.
- the coordinator: how many records each party has, and which tags are the same. A tag says nothing
  of the identifier to whoever has not the key. With the key, which any party could give away, tags
  of guessable identifiers are found by trying: against a coordinator that was broken into, together
  with a party, only `psi.ecdh` protects.
- anybody else: nothing; messages travel over verified, encrypted connections.

A party can ask about identifiers that it only guesses. How many it may ask about, and how often, is
for the others to consent to: see `psi.terms`.
"""
