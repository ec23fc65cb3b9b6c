"""The recipe of the built-in base, run by `python examples/pretrain.py FOLDER`."""
