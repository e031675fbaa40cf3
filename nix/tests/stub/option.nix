{ lib }:

rec {
  option =
    type: default:
    lib.mkOption {
      inherit type default;
    };

  # Lists of one unit's setting are joined, as nixpkgs does.
  unitSetting =
    let
      atom = lib.types.oneOf [
        lib.types.bool
        lib.types.int
        lib.types.str
        lib.types.path
      ];
    in
    lib.types.either atom (lib.types.listOf atom);

  section = lib.types.attrsOf unitSetting;

  strings = option (lib.types.listOf lib.types.str) [ ];

  assertions = option (lib.types.listOf (
    lib.types.submodule {
      options.assertion = lib.mkOption { type = lib.types.bool; };
      options.message = lib.mkOption { type = lib.types.str; };
    }
  )) [ ];

  units = settings: option (lib.types.attrsOf (lib.types.submodule { options = settings; })) { };
}
