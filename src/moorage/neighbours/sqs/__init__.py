"""A small SQS: standard queues that survive a kill, so that ``boto3.client("sqs")`` reads what endpoints notify.

Start reading at ``app``: the list of operations. ``queues`` and ``messages`` are what they do, ``rows`` the statements,
``desk`` what all of them share. Not there, and refused by name: FIFO queues, dead-letter queues, encryption by key.
"""
