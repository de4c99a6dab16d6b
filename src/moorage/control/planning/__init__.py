"""What an endpoint needs next. Pure: records and observations in, a plan out.

Start reading in ``endpoint``. ``status`` is the state machine, ``routes`` what gateways should know, ``failures`` the
texts of FailureReason, ``summary`` what DescribeEndpoint tells.
"""
