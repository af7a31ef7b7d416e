"""`wardian enclave`: build, check, sign, measure and run what a role consists of."""
