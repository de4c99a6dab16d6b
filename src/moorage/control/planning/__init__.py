"""What an endpoint needs next. Pure: records and observations in, a plan out.

Start reading in ``endpoint``. ``status`` and ``deployment`` are the state machines, ``fleets`` keeps instances,
``retention`` and ``quotas`` are asked before a change begins, ``routes`` is what gateways should know, ``failures``
has the texts of FailureReason and ``notices`` those of events for people, ``summary`` what DescribeEndpoint tells.
``placement`` gives room to instances, ``pools`` says of which types they may be.
"""
