"""The SMTP listener: sockets, timers and flow round the core of `empath.smtp`, and who may relay.

Messages go to `pipeline.accept` while they arrive; no 250 before it returns. Knows nothing of what
stands behind the ports, and parses no SMTP.
"""
