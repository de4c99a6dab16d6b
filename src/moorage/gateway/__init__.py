"""The public port: invocations go to instances, every other request goes to the process that owns it.

Start reading at ``stages`` (the list of what happens to an invocation, in order) and ``owners`` (whose request is
whose). ``requests`` and ``exchange`` are the two ends of HTTP/1.1 without input and output, ``connection`` and
``upstream`` move their bytes, ``intake`` and ``invocation``, and ``relay``, join a client's connection to an upstream
one, ``streaming`` and ``openai`` are invocations that answer in another way. ``quick`` and ``familiar`` are short cuts
for what has been seen before. ``hold`` is where invocations wait for capacity, ``instances`` knows who can take them,
``sessions`` who must. All of it runs in callbacks of one event loop: an invocation starts no task unless it needs a new
connection.

Beside an invocation, and never in its way: ``shadow`` copies it to a shadow variant, ``capture`` records it, in a
thread of its own (docs/design/capture.md); ``access_log`` writes it down, ``reports`` tells what was counted.

May import ``telemetry``, ``routing``, ``iam``, ``objects``, ``aws`` and ``base``; never ``state``: the data
plane waits for no database.
"""
