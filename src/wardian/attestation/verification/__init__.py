"""Whether a quote and its collateral are genuine and current; what they say is `appraisal`'s."""
