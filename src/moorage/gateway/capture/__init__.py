"""Data capture: a sample of the invocations on its way from memory to the objects of a bucket.

``recorder`` is the door: the event loop offers, a thread writes. ``files`` are the open ones and when each is closed,
``spool`` is where they lie on the disk, and what becomes of those of dead gateways, ``delivery`` brings them into their
buckets. What a record looks like is in ``telemetry.capture``, what is promised in docs/design/capture.md.
"""
