# Every option of an instance and its description; internal ones are nobody's business.
{ pkgs }:

let
  inherit (pkgs) lib;

  instance = import ../modules/instance.nix {
    inherit lib pkgs;
    packages = pkgs.callPackage ../packages { };
    defaultDataDir = name: "/${name}";
    defaultBackupTarget = name: "/${name}";
    dataDirText = "";
    backupTargetText = "";
  };

  inherit
    (instance {
      config = { };
      name = "one";
    })
    options
    ;

  described =
    prefix: set:
    lib.concatMapAttrs (
      name: option:
      if option._type or "" != "option" then
        described "${prefix}${name}." option
      else
        lib.optionalAttrs (!(option.internal or false)) { "${prefix}${name}" = option.description; }
    ) set;
in
described "" options // described "workers." (import ../modules/worker.nix { inherit lib; }).options
