"""``python -m moorage.front CHANNEL LISTENER``: two inherited descriptors (``process``)."""

import socket
import sys

from moorage.front.process import run

if __name__ == "__main__":
    channel, listener = (socket.socket(fileno=int(argument)) for argument in sys.argv[1:])
    run(channel, listener)
