"""The page: header, seven tabs, and the timers that refresh what is being looked at."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from types import ModuleType
from typing import Any

import gradio as gr

from serve_app.dashboard import alerting, cost, header, heatmap, overview, remediation, risks, trends
from serve_app.dashboard.view import ClientFactory, Refresh, View, refresher

REFRESH_SECONDS = 5.0
RISKS = "risks"
TABS: tuple[tuple[str, str, ModuleType], ...] = (
    ("overview", "Fleet overview", overview),
    ("heatmap", "Heatmap", heatmap),
    (RISKS, "Top risks", risks),
    ("trends", "Historical trends", trends),
    ("cost", "Cost avoidance", cost),
    ("remediation", "Remediation", remediation),
    ("alerting", "Alerting", alerting),
)
QUIETLY: dict[str, Any] = {"show_progress": "hidden", "api_visibility": "private"}


def make_blocks(clients: ClientFactory) -> gr.Blocks:
    """The page as Gradio Blocks; `clients` gives the API client of the person behind a request."""
    blocks: gr.Blocks = gr.Blocks(title="FleetCast", fill_width=True, analytics_enabled=False)
    with blocks:
        top = header.build()
        with gr.Tabs(selected=TABS[0][0]) as tabs:
            views, pages = {}, {}
            for key, label, module in TABS:
                with gr.Tab(label, id=key) as pages[key]:
                    views[key] = module.build(clients)
        timers = [gr.Timer(REFRESH_SECONDS, active=place == 0) for place in range(len(TABS))]
        _keep_fresh(blocks, gr.Timer(REFRESH_SECONDS), top, clients)
        refreshes = {key: refresher(clients, view) for key, view in views.items()}
        for place, (key, view) in enumerate(views.items()):
            _fill(timers[place].tick, refreshes[key], view, trigger_mode="once")
            pages[key].select(partial(_only, place), None, timers, **QUIETLY)
            _fill(pages[key].select, refreshes[key], view)
        _fill(blocks.load, refreshes[TABS[0][0]], views[TABS[0][0]])
        _open_servers(views, tabs, timers, refreshes[RISKS])
    blocks.queue(default_concurrency_limit=16)
    return blocks


def _keep_fresh(blocks: gr.Blocks, timer: gr.Timer, view: View, clients: ClientFactory) -> None:
    refresh = refresher(clients, view)
    _fill(blocks.load, refresh, view)
    _fill(timer.tick, refresh, view, trigger_mode="once")


def _fill(event: Callable[..., Any], refresh: Refresh, view: View, **options: Any) -> None:
    event(refresh, list(view.inputs), [view.notice, *view.outputs], **QUIETLY, **options)


def _only(place: int) -> list[gr.Timer]:
    """Timers of which only the one of the tab in sight runs."""
    return [gr.Timer(active=number == place) for number in range(len(TABS))]


def _open_servers(views: dict[str, View], tabs: gr.Tabs, timers: list[gr.Timer], refresh: Refresh) -> None:
    """A click on a server's name, wherever it stands, shows that server in the tab of risks."""
    target = views[RISKS]
    chosen = target.inputs[0]
    place = [key for key, _, _ in TABS].index(RISKS)

    def open_server(event: gr.EventData) -> tuple[Any, ...]:
        name = str(event.value)
        return gr.Tabs(selected=RISKS), gr.Dropdown(value=name), *_only(place)

    for view in views.values():
        for names in view.opens:
            names.select(open_server, None, [tabs, chosen, *timers], **QUIETLY).then(
                refresh, list(target.inputs), [target.notice, *target.outputs], **QUIETLY
            )
