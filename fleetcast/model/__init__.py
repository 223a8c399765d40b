"""Networks, bundles and baselines."""
