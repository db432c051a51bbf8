"""What runs in a job that serves a pool: it claims tickets and forks a process for each."""
