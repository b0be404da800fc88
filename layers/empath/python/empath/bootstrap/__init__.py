"""Where ports get their adapters, and nowhere else.

A process imports and opens only what is asked for: an adapter's room is imported in the function that makes
it, so `retry` never loads dnspython and `journal` no SMTP client (docs/decisions has the figures).

In Lambda one Runtime lives as long as the process: one event loop, the clients opened on it, and ports that
are made on first use. A door is

    runtime = functions_runtime()

    def handler(event, context):
        ports = runtime.ports
        stage = Journal(ports.spool, ports.ledger, ports.clock)
        return runtime.run(...)

Ports open by themselves while the loop stands still, as above; code that runs on the loop says
`await ports.open("spool", "ledger")` first.
"""

from empath.bootstrap.functions import Runtime, functions_runtime
from empath.bootstrap.ports import Ports

__all__ = ["Ports", "Runtime", "functions_runtime"]
