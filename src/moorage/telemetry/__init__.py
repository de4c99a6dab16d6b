"""What Moorage tells about itself: events of endpoints, what to do about a failed one, and what was counted.

``changes`` (what has changed, as EventBridge's events) and ``advice`` are pure. ``courier`` carries events to a
webhook, ``webhook`` speaks its HTTP. ``meters`` counts in
the gateway, ``delta`` is what it has counted, ``catalogue`` says which metrics follow from that, ``prometheus`` writes
them down; all four are pure. May import ``state``, ``aws`` and ``base``.
"""
