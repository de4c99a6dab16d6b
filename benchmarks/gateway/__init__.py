"""How fast the gateway is, beside what else there is: ``scripts/bench gateway``.

Everything is measured against nginx in the same minutes on the same two cores, because a shared machine's speed
changes: the server under load has the first core alone, the load (wrk) and the server behind have the second. CPU time
per request is the steady number. Start reading at ``cpu``, the measure that all others are built like.
"""
