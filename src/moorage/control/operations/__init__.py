"""The operations of the API, one module a resource: rules, then one transaction, then the answer.

An operation is a function of a ``Call`` and the request's members that gives the answer's members. Imitate
``models.create_model`` when you add one, and put it into ``dispatch``.
"""
