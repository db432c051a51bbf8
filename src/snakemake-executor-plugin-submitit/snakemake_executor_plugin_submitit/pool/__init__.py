"""The main process's side of pools: which jobs share workers, how many workers there are, what becomes of a lost ticket."""
