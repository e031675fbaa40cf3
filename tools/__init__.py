"""What the project's developers run, and no user: tests, generated files, comparisons, releases."""
