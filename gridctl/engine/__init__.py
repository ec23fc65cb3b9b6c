"""Engines: one function over many jobs, in processes on this machine or as tasks on Ray."""
