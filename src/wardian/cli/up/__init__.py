"""`wardian up`: a whole mesh on one machine, with this command in the owner's place."""
