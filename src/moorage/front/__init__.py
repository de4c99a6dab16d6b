"""The front of an instance of several containers, or of one that serves many models: one process for each such one.

It listens at the instance's address and talks to the containers, so that gateways, mirrors and workers see one
address as ever. Start reading at ``call``: one invocation on its way through the containers. ``server`` is the side of
those who call, ``station`` that of one container, ``question`` what the two have between them; ``heads`` reads
requests, ``spec`` says what a front is told, ``process`` is the process. What a front tells the gateway is in
``gateway.fronts``.

All of it runs in callbacks of one event loop. A front is Moorage's own and trusted; it is not in the instance's
control group, and ends with its node agent and with its instance.

May import the parts of ``gateway`` that know no client, and what ``gateway`` may; of it the node agent imports only
``spec``.
"""
