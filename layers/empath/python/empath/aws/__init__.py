"""The only room that talks to AWS: S3 spool, SQS queues, DynamoDB ledger and control, on aiobotocore.

Clients come from `session` and are opened once per process; foreign errors are mapped in `errors`; the rest
of the library sees ports.
"""
