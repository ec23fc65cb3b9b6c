"""The machine gridctl runs on: devices, cards, memory, cores, tokens, caches, local models."""
