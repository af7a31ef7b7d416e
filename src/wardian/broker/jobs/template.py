"""The file that an owner begins with. It denies everything until its rules are filled in."""

from typing import Final

_TEMPLATE: Final = """\
# What {owner} says of its table {table}. As it stands nobody gets it: there is no [[allow]].
# Fill in what follows, take the "# " away, read `wardian policy explain FILE`, then sign it.
# Every key: docs/reference/data-policy.md.
mesh = "{mesh}"
table = "{table}"
owner = "{owner}"
serial = 1                    # raise it with every version that you sign
# revoked = true              # withdraws the table, whatever else stands here
# pin = "wardian-pin-v1:..."  # which sealed file it is: `wardian seal` printed it
# uses = 10                   # releases in all
# max_beacon_age_s = 604800   # when your time beacons stop, so do releases

# [budget]                    # what all runs together may spend
# epsilon = 3.0
# delta = 1e-6

[parties.{owner}]
key = "{key}"
# seal_to = "..."             # `wardian keygen` printed it; needed to be given anything

# [parties.other]
# key = "..."
# seal_to = "..."

# [code]                      # what may open the table: the keys of an appraisal policy
# measurements = ["..."]      # or signer, product_id and min_svn
# platforms = ["..."]         # or any_platform = "risk accepted"

# [[allow]]                   # one rule; several are alternatives
# name = "study"
# purposes = ["..."]
# parties = ["{owner}", "other"]
# columns = ["..."]
# expires = 2027-01-01T00:00:00Z

# [allow.algorithms.logistic-regression]
# l2 = {{ min = 0.1 }}          # what is not named stays as it is by default

# [allow.output]              # whom you do not name gets nothing
# model = ["other"]
# metrics = ["{owner}", "other"]
# smallest_join = 1000
# smallest_cohort = 20
# epsilon = 0.5               # or without_noise = "risk accepted"
# delta = 1e-7
# approvals = {{ needed = 1, of = ["{owner}"] }}
"""


def policy_template(*, mesh: str, table: str, owner: str, key: str) -> str:
    """Return a `policy.toml` that says what has to be said, and allows nothing.

    Args:
        mesh: the mesh's name. Whoever writes the file loads it, which finds what is wrong in it.
        table: the table's name.
        owner: what the owner is called in the file.
        key: the owner's public key in hex.
    """
    return _TEMPLATE.format(mesh=mesh, table=table, owner=owner, key=key)
