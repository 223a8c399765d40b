"""Posting JSON for the notifiers that speak HTTP."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import httpx

from fleetcast.alerting.notifiers.port import DeliveryError, require_accepted
from fleetcast.alerting.outbound import Answer, ForbiddenTargetError, Outbound


def post_json(outbound: Outbound, who: str, url: str, body: Any, headers: Mapping[str, str] | None = None) -> Answer:
    """Post; returns a 2xx answer. Raises `DeliveryError`, which does not hold the URL: that may be secret."""
    return post_bytes(outbound, who, url, canonical(body), headers)


def post_bytes(
    outbound: Outbound, who: str, url: str, content: bytes, headers: Mapping[str, str] | None = None
) -> Answer:
    """The same with a body that is JSON already."""
    try:
        answer = outbound.post(url, content, {"Content-Type": "application/json", **(headers or {})})
    except ForbiddenTargetError as error:
        raise DeliveryError(f"{who}: {error}", retry=False) from None
    except httpx.InvalidURL:
        raise DeliveryError(f"{who}: the target is not a URL", retry=False) from None
    except httpx.TimeoutException as error:
        raise DeliveryError(f"{who} did not answer in time ({type(error).__name__})") from None
    except httpx.HTTPError as error:
        raise DeliveryError(f"{who} does not answer ({type(error).__name__})") from None
    require_accepted(answer, who)
    return answer


def canonical(body: Any) -> bytes:
    """JSON with sorted keys, without spaces."""
    return json.dumps(body, sort_keys=True, separators=(",", ":")).encode()
