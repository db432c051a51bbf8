"""Recordings that are prepared: decoded and integrated to one array of frames."""
