"""Secure aggregation: the coordinator learns the sum of the parties' vectors, and no single one.

The protocol is that of Bonawitz et al., *Practical Secure Aggregation for Privacy-Preserving
Machine Learning* (CCS 2017), in its form against an active coordinator. Coordinator and party are
state machines that somebody else carries messages between; bytes in, bytes out.

    party                                              coordinator
      | Advertisement  two keys and a digest, signed       |
      |--------------------------------------------------->|
      |   Keys         of everybody who came               |
      |<---------------------------------------------------|
      | Sharing        shares of mask key and seed, sealed |
      |--------------------------------------------------->|
      |   Delivery     the shares for this party           |
      |<---------------------------------------------------|
      | Masked         the vector under its masks          |
      |--------------------------------------------------->|
      |   Survivors    whose vectors came                  |
      |<---------------------------------------------------|
      | Agreement      that list, signed                   |
      |--------------------------------------------------->|
      |   Agreements   as many signatures as the threshold |
      |<---------------------------------------------------|
      | Revealed       of each, one of the two shares      |
      |--------------------------------------------------->|

What holds, as long as fewer than a third of the roster (exactly: fewer than twice the threshold
less the roster) work together with the coordinator: it learns the sum over one list of at least
`threshold` parties, or nothing. What those who work with it added to the sum it can take off again.

What it excludes:
- Nobody sees a single update, so nobody can judge one: robust strategies (median, trimmed mean,
  Krum) and clipping or adding noise to single updates by the coordinator cannot work. Parties clip
  by themselves, and one that does not is not found out. `verify_maskable` refuses the combination.
- One party can make the sum useless by a vector of garbage, and a few more than the roster less the
  threshold can end every round by staying away. A party that lies about shares is named.
- The sum itself is known to the coordinator. If the same updates were summed in two rounds over
  different lists, the difference would be an update: a party that has revealed in a round must not
  mask the same update again.
- Masks bound what one round tells. A coordinator that asks round after round for updates of nearly
  the same model, with other survivors each time, learns of their differences (So et al., *Securing
  Secure Aggregation*, 2021). Against that stands the attested code, which asks for what it made.
"""
