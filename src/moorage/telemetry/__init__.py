"""What Moorage tells about itself and its traffic: events of endpoints, what was counted, records.

``changes`` (what has changed, as EventBridge's events), ``advice`` and ``capture`` (records of captured invocations)
are pure. ``courier`` carries events to a webhook, ``webhook`` speaks its HTTP. ``meters`` counts in the gateway,
``delta`` is what it has counted, ``catalogue`` says which metrics follow from that, ``prometheus`` writes them down;
all four are pure. May import ``state``, ``aws`` and ``base``; what the gateway uses of it imports nothing of
``state``.
"""
