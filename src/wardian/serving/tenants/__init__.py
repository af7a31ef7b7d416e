"""Callers that a front end knows: who they are, and what each of them may."""
