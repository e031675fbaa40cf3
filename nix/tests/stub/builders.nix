# stdenv and the small builders, with the machine's own bash and coreutils.
{ lib, system }:

let
  mkDerivation =
    attributes:
    let
      name = attributes.name or "${attributes.pname}-${attributes.version}";
      plain = removeAttrs attributes [
        "meta"
        "passthru"
      ];
      made = derivation (
        plain
        // {
          inherit name system;
          builder = "/bin/bash";
          args = [
            "-e"
            ./setup.sh
          ];
          PATH = "/usr/bin:/bin";
        }
      );
    in
    made
    // {
      inherit name;
      meta = attributes.meta or { };
      overrideAttrs = f: mkDerivation (attributes // f attributes);
    }
    // attributes.passthru or { };

  runCommand =
    name: attributes: text:
    mkDerivation (
      attributes
      // {
        inherit name;
        dontUnpack = true;
        installPhase = text;
      }
    );

  writeFile =
    name: text: executable:
    runCommand name {
      inherit text;
      meta.mainProgram = name;
    } (
      if executable then
        ''
          mkdir -p $out/bin
          printf '%s' "$text" > $out/bin/${name}
          chmod +x $out/bin/${name}
        ''
      else
        ''printf '%s' "$text" > $out''
    );
in
rec {
  stdenvNoCC = {
    inherit mkDerivation;
    hostPlatform = {
      inherit system;
      isLinux = true;
      isx86_64 = true;
    };
  };

  stdenv = stdenvNoCC // {
    cc.cc = runCommand "gcc" { } "mkdir -p $out/lib";
  };

  inherit runCommand;

  # setup.sh knows the function.
  makeWrapper = runCommand "make-wrapper" { } "mkdir -p $out";

  writeText = name: text: writeFile name text false;

  writeShellApplication =
    {
      name,
      text,
      runtimeInputs ? [ ],
      meta ? { },
    }:
    (writeFile name ''
      #!/bin/bash
      set -euo pipefail
      export PATH="${lib.makeBinPath runtimeInputs}:$PATH"
      ${text}
    '' true).overrideAttrs
      (_: {
        meta = meta // {
          mainProgram = name;
        };
      });

  linkFarm =
    name: entries:
    runCommand name { } ''
      mkdir -p $out
      ${lib.concatMapStrings (entry: ''
        mkdir -p "$out/$(dirname ${lib.escapeShellArg entry.name})"
        ln -s ${entry.path} "$out/"${lib.escapeShellArg entry.name}
      '') entries}
    '';

  mkShell =
    attributes:
    mkDerivation (
      removeAttrs attributes [ "packages" ]
      // {
        name = attributes.name or "nix-shell";
        dontUnpack = true;
        inputs = attributes.packages or [ ];
        installPhase = "mkdir -p $out";
      }
    );
}
