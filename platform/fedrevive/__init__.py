"""Asynchronous federated learning experiments whose timeline is a pure function of the seed."""

__version__ = "0.1.0"
