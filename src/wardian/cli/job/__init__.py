"""`wardian job`: what a job wants, and who has to agree to it."""
