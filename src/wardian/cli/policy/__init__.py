"""`wardian policy`: what one owner allows to be learnt from its sealed table."""
