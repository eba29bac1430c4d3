"""How networks are trained: the loop, the order of rows, validation, threads, progress."""
