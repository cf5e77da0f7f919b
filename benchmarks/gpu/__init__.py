"""Everything that is measured on a GPU in one call, the most valuable first: `python -m benchmarks.gpu` (docs/gpu.md).

A parent process without torch (`__main__`) starts each part as a process of its own (`part`) with a limit of its own.
What a part has found so far is a file of JSON, replaced at once; the parent puts the parts together in the same way. So
whatever is cut off, and when, leaves whole results of what was done before.
"""
