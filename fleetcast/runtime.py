"""Joining or starting Ray, with the switches that this stack needs, in one place."""

from __future__ import annotations

import logging
import os
import secrets
import sys
from collections.abc import Iterator
from contextlib import contextmanager

from fleetcast.settings import RaySettings

# One thread a worker: with two threads and another busy process OpenMP can be ten times slower.
WORKER_ENVIRONMENT = {
    "OMP_NUM_THREADS": "1",
    "OMP_WAIT_POLICY": "PASSIVE",
    "GOMP_SPINCOUNT": "0",
    "HF_HUB_OFFLINE": "1",
    "GRADIO_ANALYTICS_ENABLED": "False",
}


def prepare_environment(settings: RaySettings) -> None:
    """Set what Ray reads from the environment, keeping what the user has set.

    A Ray that FleetCast starts asks for a token, since its ports are open to all interfaces of the machine. Ray reads
    that mode when it is imported, so programs call this first; afterwards it is left as Ray has it.
    """
    defaults = {
        "RAY_USAGE_STATS_ENABLED": "0",
        "RAY_DEDUP_LOGS": "0",
        "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
        "RAY_TRAIN_V2_ENABLED": "1",
        **WORKER_ENVIRONMENT,
    }
    for name, value in defaults.items():
        os.environ.setdefault(name, value)
    joins = settings.address or os.environ.get("RAY_ADDRESS")
    if joins or "ray" in sys.modules or "RAY_AUTH_MODE" in os.environ:
        return
    os.environ["RAY_AUTH_MODE"] = settings.auth_mode
    if settings.auth_mode == "token" and "RAY_AUTH_TOKEN_PATH" not in os.environ:
        os.environ.setdefault("RAY_AUTH_TOKEN", secrets.token_hex(32))


def connect(settings: RaySettings, log_to_driver: bool = True) -> None:
    """Join the cluster that `RAY_ADDRESS` or the settings name, or start Ray on this machine.

    Does nothing when this process has joined already. Inside a submitted job Ray names the cluster itself.
    """
    prepare_environment(settings)
    import ray  # noqa: PLC0415 (the environment has to be set first)

    if ray.is_initialized():
        return
    address = settings.address or os.environ.get("RAY_ADDRESS")
    if address:
        os.environ["RAY_ADDRESS"] = address
        ray.init(address=address, log_to_driver=log_to_driver, logging_level=logging.WARNING)
        return
    ray.init(
        num_cpus=settings.num_cpus,
        include_dashboard=False,
        log_to_driver=log_to_driver,
        logging_level=logging.WARNING,
    )


@contextmanager
def quiet_ray_data(
    preserve_order: bool = False, block_bytes: int | None = None, all_at_once: bool = False
) -> Iterator[None]:
    """Ray Data without its own bars, plans and notices while the context is open; the progress shown is ours.

    `block_bytes` is the size at which a task hands on what it has made so far; None leaves Ray's own. `all_at_once`
    submits every task at the start instead of by Ray Data's budgets of memory, for few tasks with small results: the
    budgets are known a second late (Ray 2.60 asks for them once a second), and then leave a gap after each task.
    """
    import ray.data  # noqa: PLC0415 (only where Ray is used)

    context, log = ray.data.DataContext.get_current(), logging.getLogger("ray.data")
    options, level = context.execution_options, log.level
    before = (context.enable_progress_bars, context.target_max_block_size, context.op_resource_reservation_enabled)
    order_before = options.preserve_order
    context.enable_progress_bars, options.preserve_order = False, preserve_order
    if block_bytes is not None:
        context.target_max_block_size = block_bytes
    if all_at_once:
        context.op_resource_reservation_enabled = False
    log.setLevel(logging.ERROR)
    try:
        yield
    finally:
        context.enable_progress_bars, context.target_max_block_size, context.op_resource_reservation_enabled = before
        options.preserve_order = order_before
        log.setLevel(level)


def disconnect() -> None:
    """Let go of Ray; one that this process started ends."""
    import ray  # noqa: PLC0415 (only where Ray is used)

    ray.shutdown()
