"""The data contract: one versioned definition of every table that enters FleetCast."""
