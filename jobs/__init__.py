"""One thin file for each Ray job."""
