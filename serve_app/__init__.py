"""One thin file for each Ray Serve deployment."""
