"""The client's side of SMTP without input or output: octets from a next hop in, octets for it out.

Read `transaction.py` first: one mail transaction as a machine that says what to send and what it waits
for. It starts after EHLO; connecting, TLS and authentication are its owner's business, and so are
clocks: the owner says when time is up. Rules: RFC 5321, RFC 2920 (PIPELINING), RFC 3030 (CHUNKING),
RFC 3461 (DSN), RFC 9422 (LIMITS); `lmtp.py`: RFC 2033 (LMTP).
"""

from empath.smtp.client.breach import Breach
from empath.smtp.client.envelope import Forward, OutgoingMail
from empath.smtp.client.lmtp import LmtpTransaction
from empath.smtp.client.offer import Offer
from empath.smtp.client.reply_reader import ReplyReader
from empath.smtp.client.state import Stage, Want
from empath.smtp.client.transaction import BLOCK, MailTransaction

__all__ = [
    "BLOCK",
    "Breach",
    "Forward",
    "LmtpTransaction",
    "MailTransaction",
    "Offer",
    "OutgoingMail",
    "ReplyReader",
    "Stage",
    "Want",
]
