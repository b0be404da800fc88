"""The stages of a message's life, in the order of DESIGN: accept, resolve, deliver, retry, dsn, journal.

A stage is a class over ports; it never calls another stage, it puts a job on a queue. Every stage may
meet the same job again, late, twice or beside another worker, and may die between any two lines: what
it finds in the ledger, not what it remembers, says what is still to be done.
"""
