"""From forecasts to incident probabilities, levels and scores."""
