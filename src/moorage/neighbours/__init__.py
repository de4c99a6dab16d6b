"""Small stand-ins for the AWS services next door: S3, KMS, CloudWatch Logs and STS.

A process of its own (``process``), which the gateway hands requests to over a Unix socket. May import everything below
it but the rooms of the other processes. Start reading in ``front``.
"""
