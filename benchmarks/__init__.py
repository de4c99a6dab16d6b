"""What Moorage reaches, measured: ``scripts/bench``. Each module has ``measure()``; nothing here fails on a number."""
