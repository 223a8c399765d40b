"""What a tab gives the page, and how its refreshes and buttons reach the API as the person who pressed them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import gradio as gr
import plotly.graph_objects as go

from fleetcast.errors import FleetCastError
from serve_app.dashboard import markup
from serve_app.dashboard.client import FleetApi

ClientFactory = Callable[[gr.Request], FleetApi]
Show = Callable[..., tuple[Any, ...]]
Perform = Callable[..., str]


@dataclass(frozen=True)
class View:
    """A tab: `show(api, *inputs)` returns one value for each of `outputs`; `notice` says what went wrong.

    `opens` are the pieces of HTML whose server names open that server's forecast.
    """

    notice: gr.HTML
    show: Show
    inputs: Sequence[Any]
    outputs: Sequence[Any]
    opens: Sequence[gr.HTML] = field(default=())


Refresh = Callable[..., tuple[Any, ...]]

LOADING = '<p class="fc-text">Loading …</p>'


def notice_line(elem_id: str) -> gr.HTML:
    """Where a tab says what went wrong; takes no room while nothing did."""
    return gr.HTML(visible=False, elem_id=elem_id)


def panel_html(elem_id: str) -> gr.HTML:
    """A piece of a tab made by `markup`; its buttons become `click`, `select` and `input` events."""
    return gr.HTML(LOADING, elem_id=elem_id, js_on_load=markup.CLICKS, apply_default_css=False)


def refresher(clients: ClientFactory, view: View) -> Refresh:
    """The handler that fills `[view.notice, *view.outputs]`; on an error the page keeps what it shows and says so."""

    def refresh(request: gr.Request, *values: Any) -> tuple[Any, ...]:
        try:
            return gr.HTML("", visible=False), *view.show(clients(request), *values)
        except FleetCastError as error:
            said = markup.notice(f"Not refreshed: {error}", "bad")
            return gr.HTML(said, visible=True), *unchanged(len(view.outputs))

    return refresh


def plot(chart: go.Figure | None) -> gr.Plot:
    """A chart's place on the page; it takes no room without a chart."""
    return gr.Plot(chart, visible=chart is not None)


def unchanged(outputs: int) -> tuple[Any, ...]:
    """Leaves so many outputs as they are."""
    return tuple(gr.skip() for _ in range(outputs))


def action(clients: ClientFactory, perform: Perform) -> Callable[..., None]:
    """The handler of a button: `perform(api, *values)` returns what to say; a refusal is shown in the API's words."""

    def run(request: gr.Request, *values: Any) -> None:
        gr.Info(_attempt(clients, request, perform, values), title="Done")

    return run


def html_action(clients: ClientFactory, perform: Callable[[FleetApi, str, str], str]) -> Callable[..., None]:
    """The same for buttons inside HTML: `perform(api, action, value)` with what `markup.button` was given."""

    def run(request: gr.Request, event: gr.EventData) -> None:
        gr.Info(_attempt(clients, request, perform, (str(event.action), str(event.value))), title="Done")

    return run


def _attempt(clients: ClientFactory, request: gr.Request, perform: Perform, values: Sequence[Any]) -> str:
    try:
        return perform(clients(request), *values)
    except FleetCastError as error:
        raise gr.Error(str(error), title="Refused", print_exception=False) from error
