"""How the command line interacts with a terminal: the log of a stage, completion of words."""
