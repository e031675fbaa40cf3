# Adds this project's packages to nixpkgs; changes none of its own.
final: _prev: {
  comfyuiIpexPackages = final.callPackage ./packages { };

  inherit (final.comfyuiIpexPackages)
    comfyui-cpu
    comfyui-cuda
    comfyui-cuda-worker-xpu
    comfyui-ipex
    comfyui-ipex-extension
    comfyui-src
    comfyui-xpu
    ipex-benchmarks
    ;
}
