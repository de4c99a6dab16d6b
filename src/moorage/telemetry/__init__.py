"""What Moorage tells about itself: so far the events of endpoints, and what to do about a failed one.

``changes`` (what has changed, as EventBridge's events) and ``advice`` are pure. ``courier`` carries events to a
webhook, ``webhook`` speaks its HTTP. May import ``state``, ``aws`` and ``base``.
"""
