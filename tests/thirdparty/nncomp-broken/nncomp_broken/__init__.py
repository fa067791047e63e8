"""A plugin that cannot be imported: it must cost one warning, and nothing else."""

raise ImportError("libbroken.so.7: cannot open shared object file")
