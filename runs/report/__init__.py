"""The page of a run: one HTML file that needs nothing else, read from what the run folder holds.

It is a function of the folder alone (no clock, no network), so that writing it again changes nothing.
"""
