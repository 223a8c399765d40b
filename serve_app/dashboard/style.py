"""How the page looks: the Gradio theme and the style sheets, in the colours of `palette`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from serve_app.dashboard import palette

if TYPE_CHECKING:
    import gradio as gr

LIGHT_ONLY = "() => { document.body.classList.remove('dark'); }"
HEAD = """<link rel="icon" href="data:,"><script>
const ask = window.fetch;
window.fetch = async (...request) => {
  const answer = await ask(...request);
  if (answer.status === 401) window.location.assign('./login');  // the session has ended
  return answer;
};
</script>"""


def variables() -> str:
    """The palette as CSS variables."""
    named = {
        "ink": palette.INK,
        "muted": palette.MUTED,
        "line": palette.LINE,
        "panel": palette.PANEL,
        "ground": palette.GROUND,
        "accent": palette.ACCENT,
        "quiet": palette.QUIET,
        "bad": palette.CRITICAL,
        "font": palette.FONT,
        "mono": palette.MONO,
        **{name.lower(): color for name, color in palette.LEVELS.items()},
    }
    return ":root{" + "".join(f"--fc-{name}:{value};" for name, value in named.items()) + "}"


def page_css() -> str:
    """The style sheet of the dashboard."""
    return variables() + _sheet("dashboard.css")


def login_css() -> str:
    """The style sheet of the login form."""
    return variables() + _sheet("login.css")


def theme() -> gr.themes.Base:
    """Gradio's plainest theme, dense, with the system's own fonts."""
    import gradio as gr  # noqa: PLC0415  # Gradio is heavy: only the process that shows the page loads it

    return gr.themes.Base(
        primary_hue=gr.themes.colors.blue,
        neutral_hue=gr.themes.colors.slate,
        spacing_size="sm",
        radius_size="sm",
        text_size="sm",
        font=["Arial", "sans-serif"],
        font_mono=["Consolas", "monospace"],
    ).set(
        body_background_fill=palette.GROUND,
        body_text_color=palette.INK,
        input_background_fill=palette.PANEL,
        input_border_color=palette.LINE,
        input_border_width="1px",
        block_background_fill=palette.PANEL,
        block_border_color=palette.LINE,
        button_primary_background_fill=palette.ACCENT,
        button_primary_text_color="#ffffff",
    )


def _sheet(name: str) -> str:
    return (Path(__file__).parent / name).read_text(encoding="utf-8")
