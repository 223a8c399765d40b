"""Slack: an incoming webhook, or a bot that keeps every incident in one thread.

A webhook does not say which message it made, so it cannot answer in its thread: each notification is a message of its
own. `chat.postMessage` answers with the message's time stamp `ts`; the later ones of the incident carry it as
`thread_ts` (docs.slack.dev). Both answer 429 with Retry-After. Slack knows no idempotency key: a message whose answer
was lost may be there twice.
"""

from __future__ import annotations

import json

from fleetcast.alerting.notifiers.http import post_json
from fleetcast.alerting.notifiers.port import DeliveryError, Message
from fleetcast.alerting.outbound import Outbound
from fleetcast.alerting.receivers import Slack

MARKS = {"trigger": ":rotating_light:", "acknowledge": ":eyes:", "resolve": ":white_check_mark:", "test": ":wrench:"}
PASSING = frozenset({"ratelimited", "service_unavailable", "internal_error", "fatal_error", "request_timeout"})
MOST_TEXT = 2900  # a section holds 3,000 characters


class SlackNotifier:
    """Posts messages."""

    def __init__(self, receiver: Slack, outbound: Outbound) -> None:
        self._receiver, self._outbound = receiver, outbound

    def send(self, message: Message) -> str | None:
        """Post a message; with a bot's token, returns the thread's time stamp."""
        text = f"{MARKS[message.action]} {shortened(escape(message.text))}"
        body: dict[str, object] = {
            "text": text,
            "blocks": [{"type": "section", "text": {"type": "mrkdwn", "text": text}}, _context(message)],
        }
        if self._receiver.webhook_url is not None:
            post_json(self._outbound, "Slack", self._receiver.webhook_url.read(), body)
            return None
        return self._post_as_bot(body, message.reference)

    def _post_as_bot(self, body: dict[str, object], thread: str | None) -> str:
        assert self._receiver.token is not None  # the routing is checked when it is read
        body |= {"channel": self._receiver.conversation} | ({} if thread is None else {"thread_ts": thread})
        headers = {"Authorization": f"Bearer {self._receiver.token.read()}"}
        answer = post_json(self._outbound, "Slack", f"{self._receiver.url}/api/chat.postMessage", body, headers)
        try:
            said = json.loads(answer.body)
            if said["ok"]:
                return thread or str(said["ts"])
            error = str(said.get("error"))
        except (ValueError, KeyError, TypeError, AttributeError):
            raise DeliveryError("Slack answered what is not its API's") from None
        raise DeliveryError(f"Slack refused: {error[:100]}", retry=error in PASSING)


def shortened(text: str) -> str:
    """At most `MOST_TEXT` characters of an escaped text, none of whose entities is cut."""
    cut = text[:MOST_TEXT]
    begun = cut.rfind("&")
    whole = len(text) == len(cut) or begun < 0 or ";" in cut[begun:]
    return cut if whole else cut[:begun]


def escape(text: str) -> str:
    """Text that Slack shows as it is: no mentions, no links (docs.slack.dev/messaging/formatting-message-text)."""
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


def _context(message: Message) -> dict[str, object]:
    facts = message.facts
    names = ("server", "profile", "metric", "state", "incident")
    words = [f"{name}: {facts[name]}" for name in names if facts.get(name)]
    words += [f"{name}: {value}" for name, value in sorted(facts.get("labels", {}).items())]
    element = {"type": "plain_text", "text": " | ".join(words)[:MOST_TEXT] or message.key}
    return {"type": "context", "elements": [element]}
