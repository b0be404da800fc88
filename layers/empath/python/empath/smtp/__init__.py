"""The SMTP protocol without input or output: octets in, events out; replies in, octets out.

No sockets, no asyncio, no clock, and no policy: who may relay, where content goes and what a hook
thinks of it is the owner's business, asked for by events (`events.py`) and answered by decisions.
Read `server.py` first, and `client/transaction.py` for the other side. Rules: RFC 5321, and per extension
the RFC named in `extensions.py`.
"""
