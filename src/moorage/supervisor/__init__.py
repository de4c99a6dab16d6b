"""The supervisor: ``moorage up``. Makes the folders, opens the port, forks the processes, keeps them alive, ends them.

Start reading at ``up.py`` (what happens at a start, in order), then ``family.py`` (the loop over the children). It is
synchronous: no event loop, no threads, because it forks, and because what has nothing in it cannot hang. It never
handles a request. It may import every process room, and nobody imports it: the command line *becomes* it
(``python -m moorage.supervisor``), so that what the command line needed is not carried by every process.
"""
