"""The line on top of every tab: ready or not and why, where forecasts come from, the clock, who is logged in."""

from __future__ import annotations

from markupsafe import Markup

from serve_app import schemas
from serve_app.dashboard import markup, words
from serve_app.dashboard.client import FleetApi
from serve_app.dashboard.view import View, notice_line, panel_html


def build() -> View:
    """The header's components."""
    line = panel_html("fc-header")
    notice = notice_line("fc-header-notice")
    return View(notice, show, [], [line])


def show(api: FleetApi) -> tuple[Markup]:
    """The header for the service's status and the person."""
    return (render(api.status(), api.whoami()),)


def render(status: schemas.Status, person: schemas.WhoAmI) -> Markup:
    """The header line."""
    pieces = [_readiness(status), _clock(status.clock), _cycle(status.cycle)]
    if status.shadow:
        pieces.append(markup.chip("shadow", "quiet", "actions and notifications are recorded, not carried out"))
    body = markup.joined(Markup("<span>{}</span>").format(piece) for piece in pieces)
    who = Markup('<span class="fc-person"><b>{}</b> ({}) · <a href="./logout">Log out</a></span>')
    reasons = "" if status.ready else markup.notice("Not ready: " + "; ".join(status.reasons), "bad")
    return Markup('<div class="fc-head"><h1>FleetCast</h1>{}{}</div>{}').format(
        body, who.format(person.name, words.listed(person.scopes)), reasons
    )


def _readiness(status: schemas.Status) -> Markup:
    return markup.chip("ready", "good") if status.ready else markup.chip("not ready", "bad")


def _clock(clock: schemas.ClockInfo) -> Markup:
    kind = f"simulated clock, {clock.speed:g} × real time" if clock.simulated else "real clock"
    return Markup("<b>{}</b> · {}").format(words.moment(clock.now), kind)


def _cycle(cycle: schemas.CycleInfo | None) -> Markup:
    if cycle is None:
        return Markup("no forecast cycle has run yet")
    parts = [f"{cycle.model} of {cycle.servers} servers forecast by the model"]
    if cycle.fallback:
        parts.append(f"{cycle.fallback} by the fallback")
    if cycle.none:
        parts.append(f"{cycle.none} without a forecast")
    text = Markup("cycle <b>{}</b> at <b>{}</b> took {:.1f} s: {}").format(
        cycle.number, words.hour(cycle.origin), cycle.seconds, ", ".join(parts)
    )
    if cycle.slow:
        text += " " + markup.chip(f"slow, {words.plural(cycle.skipped, 'step')} skipped", "bad")
    if cycle.error:
        text += " " + markup.chip(cycle.error, "bad")
    return text
