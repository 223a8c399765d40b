"""Asking a running service how it is."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import httpx
from pydantic import BaseModel, Field

from fleetcast.operate.home import SERVICE_FILE, service_home
from fleetcast.operate.tls import trust
from fleetcast.settings import Settings

KEY_VARIABLE = "FLEETCAST_API_KEY"
_TIMEOUT_S = 5.0


class Answer(BaseModel):
    """One answer: `code` and `body` when there was one, else `error` says why not."""

    code: int | None = None
    body: Any = Field(None, description="the JSON body; None when it was no JSON")
    error: str | None = None


def service_address(settings: Settings) -> str:
    """Where the service listens: as the running one wrote it into the home folder, else as the settings say."""
    written = _written_address(service_home(settings.home) / SERVICE_FILE)
    scheme = "http" if settings.service.tls_certificate is None else "https"
    return written or f"{scheme}://{settings.service.host}:{settings.service.port}"


def ask(address: str, path: str, key: str | None = None, certificate: Path | None = None) -> Answer:
    """GET a path of the service, which has that certificate; a service that does not answer is an answer too."""
    headers = {"Authorization": f"Bearer {key}"} if key else {}
    try:
        with httpx.Client(timeout=_TIMEOUT_S, trust_env=False, verify=trust(certificate)) as client:
            response = client.get(address + path, headers=headers)
    except (httpx.HTTPError, OSError) as error:
        return Answer(error=f"{type(error).__name__}: {error}")
    try:
        return Answer(code=response.status_code, body=response.json())
    except ValueError:
        return Answer(code=response.status_code)


def api_key() -> str | None:
    """The key that the environment holds for the command line, if any."""
    return os.environ.get(KEY_VARIABLE) or None


def _written_address(file: Path) -> str | None:
    try:
        address = json.loads(file.read_text())["address"]
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return address if isinstance(address, str) else None
