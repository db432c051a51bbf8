"""Keep track of jobs across main processes: registry, adoption, locks, retention of logs, efficiency report."""
