"""`cluster-serving-*`: the commands of Analytics Zoo's scripts, as thin as they can be here."""
