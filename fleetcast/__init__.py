"""FleetCast forecasts a server fleet eight hours ahead. Importing it starts nothing."""

__version__ = "0.1.0"
