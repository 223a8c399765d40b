"""A bundle and a fleet to a forecast; one forecaster for the batch job and for the service."""
