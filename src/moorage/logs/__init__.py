"""What containers print: the pump that takes it in, the files that it is in, and how they are read.

The node agent writes (``pump``, ``writer``, ``sweep``); the log service's API and the command line read (``reader``).
A stream is a folder of segments, files that are named by the position of their first byte in the stream, so a
position is good for as long as what it points to is kept. Start reading in ``pump``.
"""
