"""What the outside sees of the work: log lines, counters, traces. Powertools behind one small surface.

`import aws_lambda_powertools` brings Logger and Metrics together (its `__init__` imports both: 34 ms of
CPU beyond json and logging, the same for either alone); the X-Ray SDK (300 ms and more) comes in only
when tracing is on. Nothing here ever sees message content or credentials.
"""
