# services.comfyui-ipex for Home Manager: the same instances as services of one user.
{
  config,
  lib,
  pkgs,
  ...
}:

let
  inherit (lib) mkEnableOption mkOption types;

  cfg = config.services.comfyui-ipex;

  packages = pkgs.comfyuiIpexPackages or (pkgs.callPackage ../packages { });

  instanceModule = import ./instance.nix {
    inherit lib packages pkgs;
    defaultDataDir = name: "${config.xdg.dataHome}/comfyui-ipex/${name}";
    dataDirText = "\${config.xdg.dataHome}/comfyui-ipex/<name>";
    defaultBackupTarget = name: "${config.xdg.stateHome}/comfyui-ipex/backup/${name}";
    backupTargetText = "\${config.xdg.stateHome}/comfyui-ipex/backup/<name>";
  };

  instances = lib.filterAttrs (_: instance: instance.enable) cfg.instances;

  unitsOf = import ./units.nix {
    inherit lib pkgs;
    systemctl = [
      "${pkgs.systemd}/bin/systemctl"
      "--user"
    ];
  };

  units = lib.concatMapAttrs (
    name: instance:
    lib.mapAttrs' (suffix: unit: lib.nameValuePair "comfyui-ipex-${name}${suffix}" unit) (
      unitsOf "comfyui-ipex-${name}" instance
    )
  ) instances;

  # Environment= takes %, $ and quotes as ExecStart= does, but expands no variables.
  assignment =
    name: value: builtins.toJSON "${name}=${builtins.replaceStrings [ "%" ] [ "%%" ] value}";

  service =
    unit:
    {
      Unit = {
        Description = unit.description;
      }
      // lib.optionalAttrs (unit.onFailure or [ ] != [ ]) { OnFailure = unit.onFailure; };
      Service =
        unit.service
        // lib.optionalAttrs (unit ? environment) {
          Environment = lib.mapAttrsToList assignment unit.environment;
        }
        # The way to the user's service manager is below /run/user.
        // lib.optionalAttrs (unit.privileged or false) { ProtectHome = "read-only"; };
    }
    // lib.optionalAttrs (unit.network or false) { Install.WantedBy = [ "default.target" ]; };
in
{
  options.services.comfyui-ipex = {
    enable = mkEnableOption "ComfyUI with support for Intel GPUs";

    instances = mkOption {
      type = types.attrsOf (types.submodule instanceModule);
      default = { };
      example = lib.options.literalExpression ''{ arc.device = "xpu"; }'';
      description = ''
        The ComfyUIs of this user, by name. The system must have the cards' drivers, and the user
        must be in the group "render".
      '';
    };
  };

  config = lib.mkIf cfg.enable {
    assertions = import ./assertions.nix { inherit instances lib; };

    # Several bundles have commands of the same names, of which a profile can hold one.
    home.packages = lib.optionals (lib.length (lib.attrNames instances) == 1) (
      map (instance: instance.finalPackage) (lib.attrValues instances)
    );

    systemd.user.services = lib.mapAttrs (_: service) units;

    systemd.user.timers = lib.mapAttrs (_: unit: {
      Unit.Description = unit.description;
      Timer = unit.timer;
      Install.WantedBy = [ "timers.target" ];
    }) (lib.filterAttrs (_: unit: unit ? timer) units);

    systemd.user.tmpfiles.rules = lib.unique (
      lib.concatMap (
        instance:
        map (path: "d ${toString path} 0700 - - -") (
          [ instance.dataDir ]
          ++ lib.optional instance.backup.enable instance.backup.target
          ++ lib.optional (
            instance.monitoring.enable && instance.monitoring.textfileDir != null
          ) instance.monitoring.textfileDir
        )
      ) (lib.attrValues instances)
    );
  };
}
