"""An owner's visit: a manifest, keys and orders, against a signed receipt."""
