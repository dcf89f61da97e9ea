"""A sample compliance server: it looks at the servers it was given, and tells what is wrong with them.

It stands for whatever really assesses: it shares the types on the wire with the store, and nothing else.
"""

from __future__ import annotations
