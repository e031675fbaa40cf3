"""Upscaling with spandrel models: planned in memory, exact at the seams of tiles."""
