"""Playbooks, plans, approvals and their execution, which is a dry run."""
