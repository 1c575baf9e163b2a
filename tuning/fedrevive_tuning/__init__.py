"""Hyperparameter search on Ray Tune: search files, trials, the table of results and its pictures.

A search is a plan of ours, one configuration per trial, carried out by Ray Tune. Results come from the run folders
alone, so whatever Tune writes can be thrown away. Parsing and checking a search imports neither torch nor ray.
"""
