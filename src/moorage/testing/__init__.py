"""For tests, also of who builds on Moorage: virtual time, fakes of Moorage's own rooms, and builders of values.

``virtual_time`` plays hours in milliseconds and repeats exactly; ``fake_node`` and ``fake_gateway`` speak the real
messages over any link and check what must always hold; ``links`` joins two ends without a socket. Sees all rooms,
seen by none.
"""
