"""Set up a Python environment and a ComfyUI host, and start it: what `./comfyui-ipex` does.

Standard library only: this package runs before anything is installed.
"""
