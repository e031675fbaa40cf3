# For nix without flakes: nix-build -A comfyui-ipex, or `import <this folder> { pkgs = ...; }`.
{
  pkgs ? import <nixpkgs> { config.allowUnfree = true; },
}:

let
  packages = pkgs.callPackage ./nix/packages { };
in
{
  inherit (packages)
    comfyui-cpu
    comfyui-cuda
    comfyui-cuda-worker-xpu
    comfyui-ipex
    comfyui-ipex-extension
    comfyui-src
    comfyui-xpu
    intel-oneapi-runtime
    ipex-benchmarks
    mkCustomNode
    ;

  overlay = import ./nix/overlay.nix;
  nixosModules.default = import ./nix/modules/nixos.nix;
  nixosModules.ollama-ipex = import ./nix/modules/ollama-ipex.nix;
  homeModules.default = import ./nix/modules/home-manager.nix;
}
