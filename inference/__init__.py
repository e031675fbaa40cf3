"""What every network of ours needs, whatever it computes: cost, precision, transfers."""
