"""Statistics of two datasets side by side: how far a simulated fleet is like a real one."""
