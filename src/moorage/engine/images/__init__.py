"""What stands for an image's URI: built-in stacks (``builtin``), and Pythons that a user has added (``added``)."""
