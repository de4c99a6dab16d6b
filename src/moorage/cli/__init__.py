"""The command line, ``moorage``: a client of a running server like any other.

``main.py`` lists the commands; each has a module of its own, loaded when it is called. A command talks to the server
that ``data_dir/server.json`` names, with the key of ``data_dir/credentials.json``, through ``client.py``: plain
``http.client``, signed. Nothing here imports asyncio or a process room at module level: ``moorage --help`` is quick.
"""
