"""Images that are prepared: decoded once to find damaged ones, or written as one array, or packed into a few files."""
