"""E-mail over SMTP, as plain text and HTML; the mails of an incident are one thread."""

from __future__ import annotations

import hashlib
import smtplib
from email.message import EmailMessage
from pathlib import Path

from markupsafe import Markup

from fleetcast.alerting.notifiers.port import DeliveryError, Message
from fleetcast.alerting.outbound import trust
from fleetcast.alerting.receivers import Email

MOST_SUBJECT = 200
_ROW = Markup("<tr><th align=left>{}</th><td>{}</td></tr>")
_PAGE = Markup("<!doctype html><html><body><p><b>{}</b></p><table>{}</table></body></html>")


class MailNotifier:
    """Sends mails."""

    def __init__(self, receiver: Email, timeout_s: float, ca_file: Path | None = None) -> None:
        self._receiver, self._timeout, self._tls = receiver, timeout_s, trust(ca_file)

    def send(self, message: Message) -> str | None:
        """Send a mail; the same notification has the same Message-ID, so that a mailbox can drop a repeat."""
        mail = make_mail(self._receiver, message)
        try:
            with self._connect() as server:
                refused = server.send_message(mail)
        except smtplib.SMTPResponseException as error:
            said = error.smtp_error.decode("utf-8", "replace") if isinstance(error.smtp_error, bytes) else ""
            raise DeliveryError(
                f"the mail server answered {error.smtp_code} {said[:200]}", retry=error.smtp_code < 500
            ) from None
        except smtplib.SMTPRecipientsRefused as error:
            codes = [code for code, _ in error.recipients.values()]
            raise DeliveryError(f"the mail server refused all recipients: {codes}", retry=min(codes) < 500) from None
        except (OSError, smtplib.SMTPException) as error:
            raise DeliveryError(f"the mail server does not answer ({type(error).__name__})") from None
        if refused:
            raise DeliveryError(f"the mail server refused {len(refused)} of the recipients", retry=False)
        return None

    def _connect(self) -> smtplib.SMTP:
        to = self._receiver
        assert to.host is not None  # the routing is checked when it is read
        if to.security == "tls":
            server: smtplib.SMTP = smtplib.SMTP_SSL(to.host, to.port, timeout=self._timeout, context=self._tls)
        else:
            server = smtplib.SMTP(to.host, to.port, timeout=self._timeout)
        if to.security == "starttls":
            server.starttls(context=self._tls)
        if to.user is not None and to.password is not None:
            server.login(to.user, to.password.read())
        return server


def make_mail(receiver: Email, message: Message) -> EmailMessage:
    """The mail of a notification."""
    facts = _facts(message)
    domain = (receiver.sender or "").rpartition("@")[2]
    thread = f"<{_digest(message.incident)}@{domain}>"
    mail = EmailMessage()
    mail["From"], mail["To"] = receiver.sender, ", ".join(receiver.recipients)
    mail["Subject"] = " ".join(message.text.split())[:MOST_SUBJECT]
    mail["Date"] = message.at
    mail["Message-ID"] = f"<{_digest(message.key)}@{domain}>"
    mail["In-Reply-To"] = mail["References"] = thread
    mail["Auto-Submitted"] = "auto-generated"
    mail.set_content("\n".join([message.text, "", *(f"{name}: {value}" for name, value in facts)]))
    rows = Markup("").join(_ROW.format(name, value) for name, value in facts)
    mail.add_alternative(str(_PAGE.format(message.text, rows)), subtype="html")
    return mail


def _facts(message: Message) -> list[tuple[str, str]]:
    facts = message.facts
    names = ("server", "profile", "metric", "level", "state", "server_count", "opened_at", "incident")
    found = [(name.replace("_", " "), str(facts[name])) for name in names if facts.get(name) is not None]
    return found + [(str(name), str(value)) for name, value in sorted(facts.get("labels", {}).items())]


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:32]
