"""What the command line and a terminal say to each other: the log of a stage, completion of words."""
