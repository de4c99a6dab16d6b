"""Which variant and which instance answers an invocation. Pure: values in, values out.

``snapshot`` is what is known, ``conditions`` how the instances are doing, ``decide`` what follows from both;
``strategies`` has one file for each way to pick an instance, ``sessions`` what binds a session to one.
"""
