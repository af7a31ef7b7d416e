"""Models that jobs made of several owners' tables, and gave the broker the keys of, to be served.

record   what the broker knows of such a model, and what an owner's newest word leaves of it: pure
masked   such a key as a job holds and tells it
kept     where the broker keeps both, record and key
"""
