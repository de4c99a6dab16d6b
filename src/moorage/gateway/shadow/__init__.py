"""Shadow variants: copies of invocations, with which nobody waits.

``mirror`` is the door: whose turn it is, and how many copies there may be. ``copies`` is one on its way, ``refusals``
the instances that take none. Which share is copied is in ``routing.shadow``.
"""
