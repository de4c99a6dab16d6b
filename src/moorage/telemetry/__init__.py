"""What Moorage tells about itself and its traffic: events of endpoints, what to do about a failed one, records.

``changes`` (what has changed, as EventBridge's events), ``advice`` and ``capture`` (records of captured invocations)
are pure. ``courier`` carries events to a webhook, ``webhook`` speaks its HTTP. May import ``state``, ``aws`` and
``base``; ``capture`` imports nothing of ours, because the gateway uses it.
"""
