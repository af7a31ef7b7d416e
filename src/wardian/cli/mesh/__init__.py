"""`wardian mesh`: the manifest that a mesh's owners sign, and its history."""
