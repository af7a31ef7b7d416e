"""The load generator: asks one front end at a rate, or as fast as it answers, and reports."""
