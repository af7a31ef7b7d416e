"""Logistic and linear regression over columns that different parties have."""
