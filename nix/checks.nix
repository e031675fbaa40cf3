# `nix flake check`. What ./test does of this without a network is said in nix/README.md.
{
  lib,
  nixosSystem,
  pkgs,
}:

let
  files = import ./lib/source.nix { inherit lib; } {
    name = "nix-files";
    path = ../.;
    entries = [
      "default.nix"
      "flake.nix"
      "nix"
    ];
  };

  lint =
    name: programs: command:
    pkgs.runCommand name { nativeBuildInputs = programs; } ''
      cd ${files}
      ${command}
      touch $out
    '';

  observed = import ./tests/observe.nix {
    inherit pkgs;
    evaluate =
      { modules, ... }:
      nixosSystem {
        inherit (pkgs.stdenv.hostPlatform) system;
        modules = modules ++ [ { nixpkgs.config.allowUnfree = true; } ];
      };
    modules = [
      ./modules/nixos.nix
      ./modules/ollama-ipex.nix
      ./tests/two-instances.nix
      {
        services.ollama-ipex.enable = true;
        system.stateVersion = "25.11";
      }
    ];
  };
in
{
  formatting = lint "formatting" [ pkgs.nixfmt ] ''
    find . -name '*.nix' -exec nixfmt --check {} +
  '';

  lints = lint "lints" [
    pkgs.deadnix
    pkgs.statix
  ] "statix check . && deadnix --fail .";

  # The units of the example, under NixOS itself.
  module =
    assert lib.assertMsg (observed.refused == [ ]) (lib.concatStringsSep "; " observed.refused);
    assert observed.services.comfyui-ipex-arc.environment.COMFYUI_IPEX_DEVICE == "xpu";
    assert observed.services.comfyui-ipex-geforce.environment.COMFYUI_IPEX_DEVICE == "cuda";
    pkgs.writeText "units.json" (builtins.toJSON (lib.attrNames observed.services));

  # Builds the patched source and starts it on the CPU.
  package = pkgs.comfyui-cpu;

  vm = pkgs.testers.runNixOSTest (import ./tests/vm.nix);
}
