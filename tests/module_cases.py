"""Configurations of NixOS and Home Manager, and what they come to."""

EXAMPLE = "./nix/tests/two-instances.nix"

MODULE_SYSTEM = "import ./nix/tests/module-system.nix { inherit lib; }"

MERGED = {
    "imported": ["deeper", "deep", "two", "one"],
    "order": ["first", "middle", "last"],
    "strongest": "forced",
    "default": "weak",
    "conditional": {"kept": 1},
    "instances": {
        "a": {"name": "a", "port": 1, "twice": 2},
        "b": {"name": "b", "port": 7, "twice": 14},
    },
    "call": [4, 3],
    "either": "text",
    "nothing": None,
}

OLLAMA = "{ imports = [ ./nix/modules/ollama-ipex.nix ]; services.ollama-ipex.enable = true; }"

# One ComfyUI for the cards of two makers.
WORKERS = """{
  services.comfyui-ipex = {
    enable = true;
    instances.both = {
      device = "cuda";
      port = 8190;
      workers.arc.kind = "xpu";
    };
  };
}"""
