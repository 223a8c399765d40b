"""The observations-only reference: a strong learner that has seen a very large simulated corpus."""
