"""Small pieces of HTML. Everything that is not `Markup` is escaped: server names come from outside."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from markupsafe import Markup, escape

from fleetcast.contract.vocabulary import STATES
from serve_app.dashboard import palette, words

Piece = str | Markup
CHANCES = ("P(30\u00a0min)", "P(8\u00a0h)")  # column heads that stay on one line


def joined(pieces: Iterable[Piece]) -> Markup:
    """Pieces one after the other."""
    return Markup("").join(pieces)


def chip(text: str, kind: str = "", title: str = "") -> Markup:
    """A small label; `kind` is a class of the style sheet (a level, `good`, `bad`, `quiet`)."""
    return Markup('<span class="fc-chip fc-{}" title="{}">{}</span>').format(kind.lower() or "plain", title, text)


def level(name: str) -> Markup:
    """An alert level as a chip; the word is always there, the colour only helps."""
    return chip(name, name, palette.LEVEL_WORDS.get(name, ""))


def swatch(color: str) -> Markup:
    """A square of a colour."""
    return Markup('<i class="fc-swatch" style="background:{}"></i>').format(color)


def profile(name: str) -> Markup:
    """A profile with its colour."""
    return Markup('<span class="fc-word">{}{}</span>').format(swatch(palette.profile_color(name)), name)


def state(name: str) -> Markup:
    """A state with its colour."""
    return Markup('<span class="fc-word">{}{}</span>').format(swatch(palette.STATES.get(name, palette.QUIET)), name)


def word(text: str) -> Markup:
    """Text that stays on one line."""
    return Markup('<span class="fc-word">{}</span>').format(text)


def cards(items: Iterable[tuple[str, Piece, str]]) -> Markup:
    """Figures in a row: (what, figure, note)."""
    cell = Markup('<div class="fc-card"><span>{}</span><b>{}</b><small>{}</small></div>')
    return Markup('<div class="fc-cards">{}</div>').format(joined(cell.format(*item) for item in items))


def table(headers: Sequence[str], rows: Iterable[Sequence[Piece]], numeric: Iterable[int] = ()) -> Markup:
    """A table; the columns in `numeric` are set flush right."""
    right = set(numeric)
    marks = ["fc-num" if column in right else "" for column in range(len(headers))]
    titles = [escape(header).replace("_", Markup("_<wbr>")) for header in headers]
    head = joined(Markup('<th class="{}">{}</th>').format(*cell) for cell in zip(marks, titles, strict=True))
    cell = Markup('<td class="{}">{}</td>')
    body = joined(
        Markup("<tr>{}</tr>").format(joined(cell.format(*pair) for pair in zip(marks, row, strict=True)))
        for row in rows
    )
    return Markup(
        '<div class="fc-scroll"><table class="fc-table"><thead><tr>{}</tr></thead><tbody>{}</tbody></table></div>'
    ).format(head, body)


def facts(items: Iterable[tuple[str, Piece]]) -> Markup:
    """Names and values, one a line."""
    line = Markup("<dt>{}</dt><dd>{}</dd>")
    return Markup('<dl class="fc-facts">{}</dl>').format(joined(line.format(*item) for item in items))


def panel(title: str, body: Piece, note: str = "") -> Markup:
    """A titled box."""
    return Markup('<section class="fc-panel"><h3>{}<small>{}</small></h3>{}</section>').format(title, note, body)


def notice(text: str, kind: str = "quiet") -> Markup:
    """A line that says why there is nothing to see, or what went wrong (`bad`)."""
    return Markup('<div class="fc-notice fc-{}" role="status">{}</div>').format(kind, text)


def bar(share: float, color: str) -> Markup:
    """A bar of a share between 0 and 1."""
    width = max(0.0, min(1.0, share)) * 100
    return Markup('<i class="fc-bar"><i style="width:{:.1f}%;background:{}"></i></i>').format(width, color)


def stacked(counts: Mapping[str, int], colors: Mapping[str, str]) -> Markup:
    """Shares of a whole as one bar, with a legend of counts."""
    present = {name: count for name, count in counts.items() if count}
    segment = Markup('<i style="flex:{};background:{}" title="{}"></i>')
    entry = Markup("<span>{}{} <b>{}</b></span>")
    colored = {name: colors.get(name, palette.QUIET) for name in present}
    return Markup('<div class="fc-stack">{}</div><div class="fc-legend">{}</div>').format(
        joined(segment.format(count, colored[name], f"{name}: {count}") for name, count in present.items()),
        joined(entry.format(swatch(colored[name]), name, f"{count:,}") for name, count in present.items()),
    )


def states(counts: Mapping[str, int]) -> Markup:
    """Counts by state in the contract's order."""
    ordered = {name: counts[name] for name in (*STATES, *sorted(set(counts) - set(STATES))) if name in counts}
    return stacked(ordered, palette.STATES)


def button(text: str, action: str, value: str, event: str = "click", kind: str = "") -> Markup:
    """A button inside HTML: `CLICKS` turns it into the component's event with {action, value}."""
    return Markup(
        '<button type="button" class="fc-button {}" data-event="{}" data-action="{}" data-value="{}">{}</button>'
    ).format(kind, event, action, value, text)


def server(name: str) -> Markup:
    """A server's name that opens its forecast."""
    return button(name, "server", name, event="select", kind="fc-link")


def score(value: float | None) -> Markup:
    """A risk score 0-100; a dash without a forecast."""
    return Markup("<b>{}</b>").format(words.MISSING if value is None else f"{value:.0f}")


def probability(value: float | None) -> Markup:
    """A probability with a bar."""
    return Markup('<span class="fc-prob">{}{}</span>').format(words.percent(value), bar(value or 0.0, palette.MEDIAN))


CLICKS = """
element.addEventListener('click', (event) => {
  const pressed = event.target.closest('[data-action]');
  if (!pressed || pressed.disabled) return;
  trigger(pressed.dataset.event, {action: pressed.dataset.action, value: pressed.dataset.value});
});
"""
