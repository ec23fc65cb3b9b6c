"""The tasks, a module each: its `prepare` turns a `Request` into a `Drawing`.

Only its own module and its command know a task by name.
"""
