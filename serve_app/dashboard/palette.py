"""The colours and the type of the dashboard, one place for page and charts.

Profiles use the hues of Okabe and Ito (2008, "Color Universal Design"), which stay apart for colour-blind readers;
levels differ in lightness as well as in hue and always carry their word.
"""

from __future__ import annotations

FONT = '-apple-system, "Segoe UI", Roboto, "Helvetica Neue", Arial, "Liberation Sans", sans-serif'
MONO = 'ui-monospace, "SF Mono", Menlo, Consolas, "Liberation Mono", monospace'

INK = "#1f2a37"
MUTED = "#5b6776"
LINE = "#dfe4ea"
PANEL = "#ffffff"
GROUND = "#f4f6f8"
ACCENT = "#1f5a94"
QUIET = "#a3adb8"

LEVELS = {"P1": "#b3261e", "P2": "#d97f0a", "P3": "#2f78b7", "P4": "#8a95a3"}
LEVEL_WORDS = {"P1": "critical", "P2": "warning", "P3": "notice", "P4": "info"}

PROFILES = {
    "ml_compute": "#0072b2",
    "database": "#d55e00",
    "web_api": "#009e73",
    "conductor_mgmt": "#cc79a7",
    "data_ingest": "#e69f00",
    "risk_analytics": "#56b4e9",
    "generic": "#6b7280",
}

STATES = {
    "critical_issue": "#b3261e",
    "healthy": "#3a8f73",
    "heavy_load": "#d97f0a",
    "idle": "#c5ced8",
    "maintenance": "#9a6fb0",
    "morning_spike": "#ecc94b",
    "offline": "#3f4a57",
    "recovery": "#6bb3dd",
}

HISTORY = "#2b3644"
MEDIAN = "#1f5a94"
BANDS = ("#e3edf6", "#c3d9ec", "#94bbdc")  # outermost first
WARNING = "#d97f0a"
CRITICAL = "#b3261e"
HEAT = ((0.0, "#f7f8f9"), (0.35, "#fbe2b0"), (0.6, "#f3a84c"), (0.8, "#cf5a2a"), (1.0, "#6d1a12"))


def profile_color(name: str) -> str:
    """The colour of a profile; grey for one that the contract does not know."""
    return PROFILES.get(name, QUIET)
