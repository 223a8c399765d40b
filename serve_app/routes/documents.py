"""The API's own page: made from the OpenAPI document, without scripts, so that nothing is fetched from elsewhere."""

from __future__ import annotations

from html import escape
from typing import Any

from fastapi import APIRouter, Request
from fastapi.responses import HTMLResponse

_HEAD = """<!doctype html><html lang="en"><head><meta charset="utf-8"><title>FleetCast API</title><style>
body{font:16px/1.5 system-ui,sans-serif;max-width:60rem;margin:2rem auto;padding:0 1rem;color:#1c2733}
code{font-family:ui-monospace,monospace}h2{margin-top:2rem}dt{margin-top:1rem}dd{margin:0 0 0 1.5rem;color:#425466}
.verb{display:inline-block;min-width:3.5rem;font-weight:600}</style></head><body>"""

router = APIRouter(include_in_schema=False)


@router.get("/docs")
async def documents(request: Request) -> HTMLResponse:
    """All routes with their parameters."""
    return HTMLResponse(render(request.app.openapi()))


def render(document: dict[str, Any]) -> str:
    """An OpenAPI document as one page of HTML."""
    groups: dict[str, list[str]] = {}
    for path, operations in document["paths"].items():
        for verb, operation in operations.items():
            group = (operation.get("tags") or ["other"])[0]
            groups.setdefault(group, []).append(_operation(path, verb, operation))
    info = document["info"]
    body = "".join(f"<h2>{escape(name)}</h2><dl>{''.join(entries)}</dl>" for name, entries in groups.items())
    return (
        f"{_HEAD}<h1>{escape(info['title'])} <small>{escape(info['version'])}</small></h1>"
        f"<p>{escape(info.get('description', ''))}</p>"
        f'<p>The whole definition with all models: <a href="/openapi.json">openapi.json</a></p>{body}</body></html>'
    )


def _operation(path: str, verb: str, operation: dict[str, Any]) -> str:
    parameters = [parameter["name"] for parameter in operation.get("parameters", []) if parameter["in"] == "query"]
    query = f"<dd>query: <code>{escape(', '.join(parameters))}</code></dd>" if parameters else ""
    return (
        f'<dt><span class="verb">{escape(verb.upper())}</span> <code>{escape(path)}</code></dt>'
        f"<dd>{escape(operation.get('description', ''))}</dd>{query}"
    )
