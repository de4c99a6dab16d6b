"""What survives: keys, models, endpoint configurations, endpoints, instances and tags, in one database.

Start reading in ``records`` (what is kept), then ``store`` (how to get at it). One module a resource holds its
statements, each a function of a connection, so that an operation composes several in one transaction. SQLAlchemy
Core only, and nothing that PostgreSQL lacks outside ``sqlite``. Knows ``aws`` and ``base``; only ``control`` and
later ``workers`` come here, never the data plane.
"""
