"""The ``docker`` engine: containers of any image through the Docker API, of dockerd and podman alike.

``engine`` is where to start reading: it has an image (``images``), makes a container's configuration
(``configuration``, pure), and watches it to its end (``container``). ``daemon`` finds the daemon, ``api`` talks to it,
``network`` is what containers are connected to.
"""
