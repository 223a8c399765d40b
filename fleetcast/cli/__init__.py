"""The command line. Each command is thin: it reads arguments, calls one room and prints the result."""

from fleetcast.cli.main import app, main

__all__ = ["app", "main"]
