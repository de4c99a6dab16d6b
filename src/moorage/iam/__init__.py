"""Who calls: the caller of a signed request. All pure; keys and the time are arguments.

May import ``aws`` and ``base``. Start reading in ``authenticate``.
"""
