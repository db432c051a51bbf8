"""The jobs of a working directory: found in Slurm's queue, among this machine's processes and in the executor's records."""
