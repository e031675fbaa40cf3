# A Python that is the machine's, with a package set of names.
{
  lib,
  machine,
  runCommand,
  scope,
  stdenvNoCC,
}:

let
  script = prefix: ''
    mkdir -p $out/bin
    printf '#!/bin/bash\nexec %s "$@"\n' '${machine.python} ${prefix}' > $out/bin/python3
    chmod +x $out/bin/python3
  '';

  interpreter =
    {
      packageOverrides ? _: _: { },
      self ? null,
    }:
    let
      python =
        runCommand "python3-3.13" { meta.mainProgram = "python3"; } (script "")
        // {
          pythonVersion = "3.13";
          sitePackages = "lib/python3.13/site-packages";
          interpreter = "${python}/bin/python3";
          inherit pkgs withPackages;
          override = changes: interpreter ({ inherit packageOverrides self; } // changes);
        };

      base = lib.mapAttrs (pname: version: buildPythonPackage { inherit pname version; }) (
        lib.importJSON ./python-packages.json
      ) // {
        inherit buildPythonPackage python;
        callPackage = lib.callPackageWith (scope // pkgs);
      };

      pkgs = base // packageOverrides pkgs base;

      withPackages =
        f:
        let
          wanted = f pkgs;
          environment = runCommand "python3-3.13-env" {
            # Their names, not their outputs: those would have to be fetched.
            packages = map (package: package.name) wanted;
            meta.mainProgram = "python3";
            # A test may put something between: the emulated XPU.
          } (script "$STUB_PYTHON_PREFIX");
        in
        environment // { inherit python; };
    in
    python;

  buildPythonPackage =
    attributes:
    stdenvNoCC.mkDerivation (
      removeAttrs attributes [
        "build-system"
        "dependencies"
        "pyproject"
      ]
      // {
        name = "python3.13-${attributes.pname}-${attributes.version}";
        # Named, so that each of them must exist.
        requires = map (package: package.name) (
          attributes.build-system or [ ] ++ attributes.dependencies or [ ]
        );
        passthru = {
          inherit (attributes) pname version;
        }
        // attributes.passthru or { };
      }
    );
in
interpreter { }
