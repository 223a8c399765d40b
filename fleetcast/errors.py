"""The one exception tree of FleetCast.

Every error that a user can cause or fix derives from `FleetCastError`; its message says what was found, what was
expected and what to do. The command line prints the message alone and exits with `exit_code`.

    FleetCastError
    ├── UsageError             wrong arguments or settings (exit code 2)
    ├── ContractError          data that is not what the contract says
    │   ├── CollisionError     two server names with one 64-bit id
    │   └── IncompatibleError  two sides (model, data, checkpoint, contract) that do not fit
    ├── DatasetError           a dataset is missing, damaged or already there
    ├── MappingError           an import mapping is wrong
    ├── SourceError            a source of samples does not answer or refuses
    ├── BundleError            a model bundle is missing or damaged
    ├── TrainingError          a training cannot start or go on
    │   └── RunLockedError     the run, service or folder is in use by a living process
    ├── EvaluationError        a backtest cannot be run honestly
    │   └── LeakageError       a window would reach into what the model was trained on
    ├── StoreError             the database refused
    │   ├── StorageFullError   its disk is full
    │   ├── AuditError         the audit trail is not what was written
    │   ├── NotFoundError      no such alert, plan or key
    │   └── ConflictError      the thing is not in a state that allows this
    │       ├── LeaseLostError   another process has taken over
    │       └── LimitError       a limit of remediation, its kill switch or its circuit breaker
    └── ServiceError           the service cannot do what was asked
        ├── AuthenticationError  no key or a wrong one
        └── PermissionDeniedError  a key without the scope
"""

from __future__ import annotations

from collections.abc import Iterable


class FleetCastError(Exception):
    """Base of all errors that FleetCast raises on purpose."""

    exit_code = 1


class UsageError(FleetCastError):
    """Arguments or settings that cannot be used."""

    exit_code = 2


class ContractError(FleetCastError):
    """Data that breaks the contract as a whole (single bad rows are quarantined instead)."""


class CollisionError(ContractError):
    """Two different server names share one 64-bit id."""


class IncompatibleError(ContractError):
    """Two sides do not fit; both are named for every difference.

    `differences` holds (what, left, right); `left` and `right` say what the sides are.
    """

    def __init__(self, left: str, right: str, differences: Iterable[tuple[str, object, object]]) -> None:
        self.left, self.right = left, right
        self.differences = tuple(differences)
        lines = [f"{what}: {left} has {a!r}, {right} has {b!r}" for what, a, b in self.differences]
        super().__init__(f"{left} and {right} do not fit: " + "; ".join(lines))

    def __reduce__(self) -> tuple[type[IncompatibleError], tuple[object, ...]]:
        return type(self), (self.left, self.right, self.differences)


class DatasetError(FleetCastError):
    """A dataset is missing, damaged or in the way."""


class MappingError(FleetCastError):
    """An import mapping does not describe the file."""


class SourceError(FleetCastError):
    """A source of samples does not answer, or refuses what it was asked."""


class BundleError(FleetCastError):
    """A model bundle is missing or damaged."""


class TrainingError(FleetCastError):
    """A training cannot start or cannot go on."""


class RunLockedError(TrainingError):
    """A living process holds the run or folder."""


class EvaluationError(FleetCastError):
    """An evaluation cannot be run as asked."""


class LeakageError(EvaluationError):
    """A window would reach into what the model was trained on."""


class StoreError(FleetCastError):
    """The database refused."""


class StorageFullError(StoreError):
    """The database's disk is full."""


class AuditError(StoreError):
    """The audit trail is not what was written: entries were changed, deleted, moved or put in."""


class NotFoundError(StoreError):
    """What was named is not there."""


class ConflictError(StoreError):
    """What was named is not in a state that allows this."""


class LeaseLostError(ConflictError):
    """Another process has taken over what this one did: its writes are refused."""


class LimitError(ConflictError):
    """No action may start now: a limit is reached, or the kill switch or the circuit breaker stops all."""


class ServiceError(FleetCastError):
    """The service cannot do what was asked."""


class AuthenticationError(ServiceError):
    """No API key, or a wrong one."""


class PermissionDeniedError(ServiceError):
    """The API key lacks the scope."""
