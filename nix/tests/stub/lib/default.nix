# What this project uses of nixpkgs' lib, written for the tests: they run without a network, and no
# registry that can be reached offline carries nixpkgs. Where NIXPKGS_LIB names the real one, the
# tests compare the two.
let
  lib = import ./basics.nix // import ./strings.nix { inherit lib; } // {
    types = import ./types.nix { inherit lib; };
    modules = import ./modules.nix { inherit lib; };
    inherit (lib.modules)
      evalModules
      mkAfter
      mkBefore
      mkDefault
      mkEnableOption
      mkForce
      mkIf
      mkMerge
      mkOption
      mkOptionType
      mkOverride
      ;
    inherit (lib.options) literalExpression;
    options = {
      literalExpression = text: {
        _type = "literalExpression";
        inherit text;
      };
    };
  };
in
lib
