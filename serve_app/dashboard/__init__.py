"""The dashboard: a Gradio page on Ray Serve that knows the fleet only through the HTTP API."""
