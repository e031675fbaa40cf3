# Small configurations whose outcome is known: the stub's evalModules and nixpkgs' own must agree.
{ lib }:

let
  inherit (lib) mkOption types;

  option = type: mkOption { inherit type; };

  declared = {
    options = {
      imported = option (types.listOf types.str);
      order = option (types.listOf types.str);
      strongest = option types.str;
      default = mkOption {
        type = types.str;
        default = "weakest";
      };
      conditional = option (types.attrsOf types.int);
      instances = option (
        types.attrsOf (
          types.submodule (
            { config, name, ... }:
            {
              options = {
                name = mkOption {
                  type = types.str;
                  default = name;
                };
                port = mkOption {
                  type = types.port;
                  default = 1;
                };
                twice = option types.int;
              };
              config.twice = 2 * config.port;
            }
          )
        )
      );
      call = option (types.functionTo (types.listOf types.int));
      either = option (types.either types.int types.str);
      nothing = option (types.nullOr types.int);
    };
  };

  evaluated = lib.evalModules {
    modules = [
      declared
      {
        imports = [
          {
            imports = [ { imported = [ "deeper" ]; } ];
            imported = [ "deep" ];
          }
        ];
        imported = [ "one" ];
      }
      {
        imported = [ "two" ];
        order = lib.mkAfter [ "last" ];
        strongest = "usual";
        default = lib.mkDefault "weak";
        conditional = lib.mkMerge [
          (lib.mkIf true { kept = 1; })
          (lib.mkIf false { dropped = 2; })
          { never = lib.mkIf false 3; }
        ];
        instances.a = { };
        call = number: [ number ];
        either = "text";
        nothing = null;
      }
      {
        order = lib.mkMerge [
          [ "middle" ]
          (lib.mkBefore [ "first" ])
        ];
        strongest = lib.mkForce "forced";
        instances.b.port = 7;
        call = number: [ (number + 1) ];
      }
    ];
  };
in
evaluated.config // { call = evaluated.config.call 3; }
