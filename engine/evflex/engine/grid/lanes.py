"""How many steps kernels take together.

Each operation is done for all lanes, which the processor does in a few instructions, and what is looked up in a pattern
is looked up once. With fewer lanes the compiler leaves vectors aside; with more the factor leaves the cache.
"""

LANES = 32
