"""What avoided incidents would have been worth."""
