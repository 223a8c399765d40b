"""Speed, measured beside a named peer in the same run: `python -m benchmarks.NAME`."""
