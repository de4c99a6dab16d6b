"""What models cost: where they come from, how they are served."""
