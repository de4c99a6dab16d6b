"""The node agent: starts, watches and stops the instances of one machine, and reports what it sees.

It is the parent of their processes and the owner of their limits, sockets and logs: when it dies they end with it. It
decides nothing about how many there should be; the control plane does (``engine/contract.py`` has the messages). Start
reading at ``agent``; ``life`` is one instance from launch to end, ``outcome`` what an end means, ``preparation`` what
comes before the start.
"""
