"""What a check of `fleetcast doctor` says."""

from __future__ import annotations

from enum import StrEnum

from pydantic import BaseModel, Field


class Verdict(StrEnum):
    """How a check came out; only `FAIL` makes the doctor's exit code 1."""

    OK = "ok"
    WARN = "warning"
    FAIL = "failure"
    SKIP = "skipped"


class CheckResult(BaseModel):
    """One check: what was found and, unless all is well, what to do about it."""

    name: str
    verdict: Verdict
    found: str
    advice: str = Field("", description="what to do; empty when nothing needs doing")


def ok(name: str, found: str) -> CheckResult:
    """All is well."""
    return CheckResult(name=name, verdict=Verdict.OK, found=found)


def warn(name: str, found: str, advice: str) -> CheckResult:
    """It works, but not as well as it should."""
    return CheckResult(name=name, verdict=Verdict.WARN, found=found, advice=advice)


def fail(name: str, found: str, advice: str) -> CheckResult:
    """Something of FleetCast does not work."""
    return CheckResult(name=name, verdict=Verdict.FAIL, found=found, advice=advice)


def skip(name: str, found: str, advice: str) -> CheckResult:
    """Not looked at, and why."""
    return CheckResult(name=name, verdict=Verdict.SKIP, found=found, advice=advice)
