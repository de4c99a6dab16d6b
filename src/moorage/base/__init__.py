"""The ground floor: clock, chance, identity, tasks, settings, files and links between processes.

Knows nothing of the product and imports nothing of it. The only room that may import ``time``, ``random`` and
``uuid``: everybody else is given a ``Clock``, a ``Chance`` or an ``Ids``, so that a test plays hours in
milliseconds and repeats exactly.
"""
