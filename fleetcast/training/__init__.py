"""Training a bundle with Ray Train and Lightning."""
