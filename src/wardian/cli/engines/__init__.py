"""Where the workers of a mesh run, as the operator says."""
