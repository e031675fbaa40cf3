# The package set: names that the project takes from nixpkgs, most of them without content.
{
  system ? "x86_64-linux",
  overlays ? [ ],
  config ? { },
  lib ? import ./lib,
  # What the machine offers: a Python, with or without torch. Tests write the file.
  machine ?
    if builtins.pathExists ./machine.json then
      lib.importJSON ./machine.json
    else
      { python = "/usr/bin/python3"; },
}:

let
  self = lib.foldl' (set: overlay: set // overlay self set) base overlays;

  empty = name: self.runCommand name { meta.mainProgram = name; } "mkdir -p $out";

  # Packages of which only the name matters.
  names = [
    "autoAddDriverRunpath"
    "autoPatchelfHook"
    "deadnix"
    "git"
    "intel-compute-runtime"
    "level-zero"
    "nixfmt"
    "nixfmt-tree"
    "ollama-vulkan"
    "ruff"
    "statix"
    "systemd"
    "uv"
    "zlib"
  ];

  base =
    lib.genAttrs names empty
    // import ./builders.nix { inherit lib system; }
    // import ./fetchers.nix { inherit lib self; }
    // {
      inherit config lib system;

      callPackage = lib.callPackageWith self;
      newScope = scope: lib.callPackageWith (self // scope);

      addDriverRunpath.driverLink = "/run/opengl-driver";

      intel-compute-runtime = empty "intel-compute-runtime" // {
        drivers = empty "intel-compute-runtime-drivers";
      };

      # Not by callPackage: its override is its own.
      python313 = import ./python.nix {
        inherit lib machine;
        inherit (self) runCommand stdenvNoCC;
        scope = self;
      };

      unzip = self.runCommand "unzip" { } ''
        mkdir -p $out/bin
        printf '#!/bin/bash\nexec %s -m zipfile -e "$2" .\n' ${machine.python} > $out/bin/unzip
        chmod +x $out/bin/unzip
      '';

      # Evaluates the machines of a test; boots none.
      testers.runNixOSTest =
        test:
        let
          nodes = lib.mapAttrs (
            _: node:
            (import ./nixos.nix {
              pkgs = self;
              modules = [ node ];
            }).config
          ) test.nodes;
          report = lib.mapAttrs (_: config: lib.attrNames config.systemd.services) nodes;
        in
        self.runCommand test.name { evaluated = builtins.toJSON report; } ''echo "$evaluated" > $out'';
    };
in
self
