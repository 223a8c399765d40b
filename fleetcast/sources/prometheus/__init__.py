"""Samples of a Prometheus: asked for by PromQL, or sent by its remote write."""
