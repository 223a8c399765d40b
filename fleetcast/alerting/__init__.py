"""The life of an alert: opening, routing, escalation, resolution; notifications go to an outbox."""
