"""CloudWatch Logs: the log groups of endpoints, read as the log service's own clients read them.

Nothing is put in through it: what containers print is (``moorage.logs``). Start reading in ``app``.
"""
