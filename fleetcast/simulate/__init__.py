"""The synthetic fleet: calendar, profiles, incidents with causes, cascades, and one vectorised simulator."""
