"""What authors put into a paper: tables and figures as LaTeX."""
