"""What makes the host right for Intel GPUs. Knows no node."""

VERSION = "0.1.0"
