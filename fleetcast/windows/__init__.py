"""From tables to dense arrays on the 5-minute grid to batches of a model."""
