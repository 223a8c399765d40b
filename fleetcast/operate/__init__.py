"""Housekeeping: what runs, what is stored, whether all is well, and starting fresh."""
