"""Notifiers speak as their receivers' documentation says, and say rightly whether another attempt makes sense."""

from __future__ import annotations

import hashlib
import hmac
import json
import re
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from email import message_from_bytes, policy
from email.message import EmailMessage
from typing import Any

import pytest
from aiosmtpd.controller import Controller
from aiosmtpd.smtp import SMTP, AuthResult, Envelope, Session

from fleetcast.alerting.notifiers.build import build_notifiers
from fleetcast.alerting.notifiers.port import DeliveryError, Message, retry_after
from fleetcast.alerting.notifiers.slack import MOST_TEXT, escape, shortened
from fleetcast.alerting.routing import Routing
from fleetcast.settings import AlertSettings
from tests.loopback import Answer, Loopback, Request, loopback
from tests.prometheus import free_port

pytestmark = pytest.mark.filterwarnings("ignore:Requiring AUTH")  # the mail server of the test is on loopback
AT = datetime(2026, 1, 5, 9, tzinfo=UTC)
SETTINGS = AlertSettings(allow_private=["127.0.0.0/8"], timeout_s=0.3)
FACTS = {
    "incident": "fleetcast/7/web1/memory_used", "id": 7, "state": "open", "level": "P1", "server": "web1",
    "profile": "web_api", "metric": "memory_used", "labels": {"team": "<@U1> & <b>x</b>"}, "servers": ["web1"],
    "server_count": 1, "opened_at": AT.isoformat(), "at": AT.isoformat(),
}  # fmt: skip


def message(action: Any = "trigger", text: str = "[P1] web1 <b>full</b> & <!channel>", **fields: Any) -> Message:
    return Message("7.0/trigger/P1/pager", action, "P1", text, AT, FACTS, **fields)


def notifier(line: str, settings: AlertSettings = SETTINGS) -> Any:
    routing = Routing.parse(f"receivers:\n  it: {{{line}}}\nroute: {{name: r, receivers: [it], shadow: false}}", "test")
    return build_notifiers(routing.receivers, settings)["it"]


@pytest.fixture
def receiver(monkeypatch: pytest.MonkeyPatch) -> Iterator[Loopback]:
    monkeypatch.setenv("KEY", "s3cret")
    with loopback() as found:
        yield found


def pager(receiver: Loopback) -> Any:
    return notifier(f"channel: PagerDuty, to: x, routing_key: {{env: KEY}}, url: '{receiver.url}'")


def refused(sender: Any, found: Message) -> DeliveryError:
    with pytest.raises(DeliveryError) as error:
        sender.send(found)
    assert "s3cret" not in str(error.value)
    assert "127.0.0.1" not in str(error.value)
    return error.value


def test_pagerduty_is_told_to_trigger_acknowledge_and_resolve_one_dedup_key(receiver: Loopback) -> None:
    for action in ("trigger", "acknowledge", "resolve"):
        pager(receiver).send(message(action))
    events = [request.json for request in receiver.requests]
    assert {request.path for request in receiver.requests} == {"/v2/enqueue"}
    assert [event["event_action"] for event in events] == ["trigger", "acknowledge", "resolve"]
    assert {(event["dedup_key"], event["routing_key"]) for event in events} == {(FACTS["incident"], "s3cret")}
    payload = events[0]["payload"]
    assert (payload["severity"], payload["source"], payload["timestamp"]) == ("critical", "web1", AT.isoformat())
    assert "payload" not in events[2]


@pytest.mark.parametrize(
    ("answer", "retry", "after"),
    [
        (Answer(429, {"Retry-After": "17"}), True, 17.0),
        (Answer(500), True, None),
        (Answer(503, {"Retry-After": "Mon, 05 Jan 1970 09:00:00 GMT"}), True, 0.0),
        (Answer(400, {}, b'{"errors": ["dedup_key is too long"]}'), False, None),
        (Answer(302, {"Location": "http://169.254.169.254/"}), False, None),
    ],
)
def test_an_answer_says_whether_and_when_to_try_again(
    receiver: Loopback, answer: Answer, retry: bool, after: float | None
) -> None:
    receiver.script.append(answer)
    error = refused(pager(receiver), message())
    assert (error.retry, error.after_s) == (retry, after)
    assert str(answer.status) in str(error)
    assert len(receiver.requests) == 1  # a redirect is not followed
    pager(receiver).send(message())


def test_a_receiver_that_takes_it_and_never_answers_is_tried_again(receiver: Loopback) -> None:
    receiver.script.append(lambda request: None)
    error = refused(pager(receiver), message())
    assert error.retry
    assert "in time" in str(error)


def test_a_receiver_that_is_away_is_tried_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KEY", "s3cret")
    away = notifier(f"channel: PagerDuty, to: x, routing_key: {{env: KEY}}, url: 'http://127.0.0.1:{free_port()}'")
    assert refused(away, message()).retry


@pytest.mark.parametrize("value", ["0", "12.5", "999999", "-3", "nan", "x", "", "Mon, 05 Jan 2026 09:01:00 GMT"])
def test_retry_after_is_a_number_or_a_date_and_never_absurd(value: str) -> None:
    expected = {"0": 0.0, "12.5": 12.5, "999999": 21_600.0, "-3": 0.0}.get(value)
    assert retry_after(value, AT) == (60.0 if value.startswith("Mon") else expected)


def test_a_slack_webhook_gets_text_that_mentions_nobody(
    receiver: Loopback, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("DEBUG")
    monkeypatch.setenv("HOOK", f"{receiver.url}/services/T0/B0/s3cret")
    receiver.script.append(Answer(200, {}, b"ok"))
    hook = notifier("channel: Slack, to: x, webhook_url: {env: HOOK}")
    assert hook.send(message()) is None
    (request,) = receiver.requests
    assert request.path == "/services/T0/B0/s3cret"
    assert "&lt;b&gt;full&lt;/b&gt; &amp; &lt;!channel&gt;" in request.json["text"]
    section, context = request.json["blocks"]
    assert section["text"]["text"] == request.json["text"]
    assert context["elements"][0]["type"] == "plain_text"  # which Slack does not read as markup
    receiver.script.append(Answer(429, {"Retry-After": "30"}, b"rate_limited"))
    assert refused(hook, message()).after_s == 30.0
    assert "s3cret" not in caplog.text


@pytest.mark.parametrize("before", range(6))
def test_a_long_text_is_cut_between_entities(before: int) -> None:
    text = escape("a" * (MOST_TEXT - before) + "<b>" * 5)
    cut = shortened(text)
    assert MOST_TEXT - 4 < len(cut) <= MOST_TEXT
    assert text.startswith(cut)
    assert re.fullmatch(r"([^&]|&(lt|gt|amp);)*", cut)
    assert shortened(text[: MOST_TEXT - before]) == text[: MOST_TEXT - before]


def test_a_slack_bot_keeps_an_incident_in_one_thread(receiver: Loopback) -> None:
    def slack(request: Request) -> Answer:
        assert request.path == "/api/chat.postMessage"
        assert request.headers["authorization"] == "Bearer s3cret"
        return Answer(200, {}, json.dumps({"ok": True, "ts": f"17{len(receiver.requests)}.1"}).encode())

    receiver.usually = slack
    bot = notifier(f"channel: Slack, to: x, token: {{env: KEY}}, conversation: C1, url: '{receiver.url}'")
    thread = bot.send(message())
    assert thread == "171.1"
    assert bot.send(message("resolve", reference=thread)) == thread
    first, second = (request.json for request in receiver.requests)
    assert "thread_ts" not in first
    assert (second["thread_ts"], second["channel"]) == (thread, "C1")


@pytest.mark.parametrize(
    ("said", "retry"),
    [({"ok": False, "error": "channel_not_found"}, False), ({"ok": False, "error": "ratelimited"}, True), ([], True)],
)
def test_slack_refuses_with_status_200(receiver: Loopback, said: object, retry: bool) -> None:
    receiver.script.append(Answer(200, {}, json.dumps(said).encode()))
    bot = notifier(f"channel: Slack, to: x, token: {{env: KEY}}, conversation: C1, url: '{receiver.url}'")
    assert refused(bot, message()).retry is retry


def test_a_webhook_is_signed_and_its_key_is_the_same_at_every_attempt(receiver: Loopback) -> None:
    hook = notifier(f"channel: webhook, to: x, address: '{receiver.url}/in?x=1', secret: {{env: KEY}}")
    receiver.script.append(Answer(500))
    assert refused(hook, message()).retry
    hook.send(message())
    assert len({request.headers["idempotency-key"] for request in receiver.requests}) == 1
    request = receiver.requests[1]
    assert request.path == "/in?x=1"
    assert (request.json["incident"], request.json["action"]) == (FACTS["incident"], "trigger")
    seconds, digest = (part.partition("=")[2] for part in request.headers["x-fleetcast-signature"].split(","))
    own = hmac.new(b"s3cret", f"{seconds}.".encode() + request.body, hashlib.sha256).hexdigest()
    assert digest == own


def test_a_secret_that_is_not_there_is_named_and_may_come(receiver: Loopback, monkeypatch: pytest.MonkeyPatch) -> None:
    from fleetcast.errors import UsageError

    monkeypatch.delenv("KEY")
    with pytest.raises(UsageError, match="the secret KEY is empty or not set"):
        pager(receiver).send(message())


class Mailbox:
    """A mail server's handler; refuses what the test says."""

    def __init__(self) -> None:
        self.mails: list[EmailMessage] = []
        self.answer = "250 OK"

    async def handle_DATA(self, server: SMTP, session: Session, envelope: Envelope) -> str:  # noqa: N802
        found = message_from_bytes(envelope.content or b"", policy=policy.default)
        assert isinstance(found, EmailMessage)
        self.mails.append(found)
        return self.answer


@pytest.fixture
def mailbox(monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[Mailbox, str]]:
    def login(server: SMTP, session: Session, envelope: Envelope, mechanism: str, data: Any) -> AuthResult:
        return AuthResult(success=(data.login, data.password) == (b"bot", b"s3cret"))

    monkeypatch.setenv("KEY", "s3cret")
    box, port = Mailbox(), free_port()
    server = Controller(
        box, hostname="127.0.0.1", port=port, authenticator=login, auth_required=True, auth_require_tls=False
    )
    server.start()
    yield (
        box,
        (
            f"channel: email, to: x, host: 127.0.0.1, port: {port}, security: none, user: bot, password: {{env: KEY}}, "
            "sender: fleet@example.org, recipients: [a@example.org, b@example.org]"
        ),
    )
    server.stop()


def test_a_mail_has_text_and_html_and_is_in_its_incidents_thread(mailbox: tuple[Mailbox, str]) -> None:
    box, line = mailbox
    sender = notifier(line, AlertSettings(timeout_s=5))
    sender.send(message(text="[P1] web1 <b>full</b>\r\nBcc: evil@example.org"))
    sender.send(message("resolve", "[resolved] web1"))
    sender.send(message("resolve", "[resolved] web1"))
    first, second, repeat = box.mails
    assert first["To"] == "a@example.org, b@example.org"
    assert first["Subject"] == "[P1] web1 <b>full</b> Bcc: evil@example.org"
    assert first["Bcc"] is None
    plain, html = (part.get_content() for part in first.iter_parts())
    assert "[P1] web1 <b>full</b>" in plain
    assert "&lt;b&gt;full&lt;/b&gt;" in html
    assert "<b>x</b>" not in html
    assert first["References"] == second["References"]
    assert second["Message-ID"] == repeat["Message-ID"]


@pytest.mark.parametrize(("answer", "retry"), [("451 try later", True), ("554 not wanted", False)])
def test_a_mail_server_refuses_for_now_or_for_good(mailbox: tuple[Mailbox, str], answer: str, retry: bool) -> None:
    box, line = mailbox
    box.answer = answer
    assert refused(notifier(line, AlertSettings(timeout_s=5)), message()).retry is retry


def test_a_mail_server_without_encryption_is_not_used_unless_told(mailbox: tuple[Mailbox, str]) -> None:
    box, line = mailbox
    error = refused(
        notifier(line.replace("security: none", "security: starttls"), AlertSettings(timeout_s=5)), message()
    )
    assert error.retry
    assert box.mails == []


def test_alertmanagers_alert_keeps_its_labels_from_start_to_end() -> None:
    from fleetcast.alerting.notifiers.alertmanager import make_alert

    now = AT + timedelta(minutes=3)
    begun, over = make_alert(message(), now), make_alert(message("resolve"), now)
    assert begun["labels"] == over["labels"]
    assert datetime.fromisoformat(str(begun["endsAt"])) > now + timedelta(days=1)
    assert over["endsAt"] == now.isoformat()
    behind = make_alert(message("resolve"), AT - timedelta(days=1))  # the service's clock is ahead of the machine's
    assert behind["startsAt"] == behind["endsAt"]
