"""Who calls, and may they? Signatures, session tokens and policies. All pure; keys and the time are arguments.

May import ``aws`` and ``base``. Start reading in ``authenticate`` (who), then ``evaluate`` (may they).
"""
