"""The parts of ``run.py``; a project of your own needs none of this."""
