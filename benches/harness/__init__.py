"""The parts of meshtrace's process-level benchmark. `overhead.py` puts them together."""
