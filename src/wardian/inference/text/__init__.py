"""Texts to the numbers of tokens: the vocabulary, and the two algorithms that most models use.

Our own and in Python, because the usual library brings an HTTP client, a cache on disk and fifteen
other packages with it, and an enclave's code is to be read (ADR 0027).
"""
