"""Many prompts over many servers: `./comfyui-ipex batch` and `./comfyui-ipex node`.

Runs in the environment that the launcher set up. docs/scale.md says what it does.
"""
