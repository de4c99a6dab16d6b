"""Which variant and which instance answers an invocation. Pure: values in, values out.

``snapshot`` is what is known, ``decide`` what follows from it.
"""
