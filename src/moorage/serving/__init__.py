"""The built-in model server inside an instance: the standard library and the model's framework only.

It is loaded by the Python of the model's environment (3.9 or newer) as the package ``moorage_serving``; nothing else of
Moorage can be imported there, so imports inside are relative. ``instance.serve`` is the door: ``model`` loads the
customer's code and model as one of the ``toolkits`` does, ``handlers`` calls it, ``media`` and the toolkits hold the
default codecs, ``wire`` reads requests and ``server`` moves the bytes.
"""
