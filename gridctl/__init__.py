"""gridctl draws and trains image sequences as grids: GRID (arXiv 2412.10718) as a tool."""

__version__ = "0.1.0"
