"""Submit jobs, one by one or as arrays, and query the states of submitted jobs."""
