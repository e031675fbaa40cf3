# Everything that this project builds, as one scope.
{
  lib,
  newScope,
}:

lib.makeScope newScope (
  self:
  let
    inherit (self) callPackage;
  in
  {
    sources = lib.importJSON ../sources.json;
    source = import ../lib/source.nix { inherit lib; };
    intel-oneapi-runtime = callPackage ../python/intel-runtime.nix {
      pins = self.sources.intelRuntime;
    };
    pythons = callPackage ../python { };

    mkCustomNode = callPackage ./mk-custom-node.nix { };

    comfyui-src = callPackage ./comfyui-src.nix { };
    comfyui-ipex-extension = callPackage ./extension.nix { };

    comfyui-ipex = callPackage ./comfyui-ipex.nix { };
    comfyui-cuda = callPackage ./comfyui-ipex.nix {
      backends = [ "cuda" ];
      mainProgram = "comfyui-cuda";
    };
    comfyui-xpu = callPackage ./comfyui-ipex.nix {
      backends = [ "xpu" ];
      mainProgram = "comfyui-xpu";
    };
    # The counterpart of `./comfyui-ipex --worker xpu` on a machine with both makers' cards.
    comfyui-cuda-worker-xpu = callPackage ./comfyui-ipex.nix {
      backends = [ "cuda" ];
      workers.worker.kind = "xpu";
      mainProgram = "comfyui-cuda";
    };
    comfyui-cpu = callPackage ./comfyui-ipex.nix { backends = [ "cpu" ]; };

    ipex-benchmarks = callPackage ./ipex-benchmarks.nix { };
  }
)
