"""Pictures that are decoded and enlarged in a worker while the next one is sampled."""
