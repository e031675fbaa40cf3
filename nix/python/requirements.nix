# What ComfyUI and this extension import, by the names of nixpkgs' Python packages. The tests
# compare this list with ComfyUI's requirements.txt and with ours.
{
  # No published torchaudio is known by its hash for this torch: without it the audio nodes are
  # missing, and ComfyUI starts.
  withAudio,
  withIpex,
}:
[
  # ComfyUI
  "aiohttp"
  "alembic"
  "av"
  "comfyui-embedded-docs"
  "comfyui-frontend-package"
  "comfyui-workflow-templates"
  "einops"
  "kornia"
  "numpy"
  "pillow"
  "psutil"
  "pydantic"
  "pydantic-settings"
  "pyyaml"
  "requests"
  "safetensors"
  "scipy"
  "sentencepiece"
  "soundfile"
  "spandrel"
  "sqlalchemy"
  "tokenizers"
  "torch"
  "torchsde"
  "torchvision"
  "tqdm"
  "transformers"
  "yarl"

  # This extension
  "controlnet-aux"
]
++ (if withAudio then [ "torchaudio" ] else [ ])
++ (if withIpex then [ "intel-extension-for-pytorch" ] else [ ])
