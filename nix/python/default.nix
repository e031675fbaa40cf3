# A Python for each kind of device: nixpkgs' package set with one torch in it.
{
  lib,
  callPackage,
  intel-oneapi-runtime,
  python313,
  sources,
}:

let
  hostPackages =
    final: prev:
    lib.mapAttrs (final.callPackage ./wheel.nix { }) sources.hostWheels
    // {
      controlnet-aux = final.callPackage ./controlnet-aux.nix { pin = sources.controlnet-aux; };
    };

  torch = {
    cpu = final: prev: { };

    # The published builds: compiling torch with CUDA takes hours.
    cuda = final: prev: {
      torch = prev.torch-bin;
      torchaudio = prev.torchaudio-bin;
      torchvision = prev.torchvision-bin;
    };

    xpu = callPackage ./xpu.nix {
      inherit intel-oneapi-runtime;
      pins = sources.xpu;
    };
  };

  pythonFor =
    overlay:
    let
      self = python313.override {
        inherit self;
        packageOverrides = lib.composeExtensions hostPackages overlay;
      };
    in
    self;
in
lib.mapAttrs (_: pythonFor) torch
