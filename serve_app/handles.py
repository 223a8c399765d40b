"""The type of a handle to another deployment."""

from __future__ import annotations

from typing import Any, TypeAlias

from ray.serve.handle import DeploymentHandle

Handle: TypeAlias = DeploymentHandle[Any]
