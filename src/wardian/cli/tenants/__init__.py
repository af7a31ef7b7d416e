"""`wardian tenants`: who may ask the front ends of a mesh."""
