# services.comfyui-ipex for NixOS. (services.comfyui is nixpkgs' own module.)
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
    defaultDataDir = name: "/var/lib/comfyui-ipex/${name}";
    dataDirText = "/var/lib/comfyui-ipex/<name>";
    defaultBackupTarget = name: "/var/backup/comfyui-ipex/${name}";
    backupTargetText = "/var/backup/comfyui-ipex/<name>";
  };

  firewall = {
    options.openFirewall = mkOption {
      type = types.bool;
      default = false;
      description = "Whether to open {option}`port` in the firewall.";
    };
  };

  instances = lib.filterAttrs (_: instance: instance.enable) cfg.instances;

  unitsOf = import ./units.nix {
    inherit lib pkgs;
    systemctl = [ "${config.systemd.package}/bin/systemctl" ];
  };

  # Unit name -> unit, of all instances.
  units = lib.concatMapAttrs (
    name: instance:
    lib.mapAttrs' (suffix: unit: lib.nameValuePair "comfyui-ipex-${name}${suffix}" unit) (
      unitsOf "comfyui-ipex-${name}" instance
    )
  ) instances;

  service = unit: {
    inherit (unit) description;
    environment = unit.environment or { };
    onFailure = unit.onFailure or [ ];
    after = lib.optional (unit.network or false) "network.target";
    wantedBy = lib.optional (!(unit ? timer) && !(unit.privileged or false)) "multi-user.target";
    serviceConfig =
      lib.optionalAttrs (!(unit.privileged or false)) {
        User = cfg.user;
        Group = cfg.group;
        # Cards belong to these groups.
        SupplementaryGroups = lib.optionals (unit.network or false) [
          "render"
          "video"
        ];
      }
      // unit.service;
  };

  directory = mode: path: "d ${toString path} ${mode} ${cfg.user} ${cfg.group} -";
in
{
  options.services.comfyui-ipex = {
    enable = mkEnableOption "ComfyUI with support for Intel GPUs";

    user = mkOption {
      type = types.str;
      default = "comfyui-ipex";
      description = "The user that every instance runs as. It is created if it has this name.";
    };

    group = mkOption {
      type = types.str;
      default = "comfyui-ipex";
      description = "The group that every instance runs as. It is created if it has this name.";
    };

    graphics = {
      enable = mkOption {
        type = types.bool;
        default = lib.any (instance: lib.elem "xpu" instance.finalPackage.kinds) (
          lib.attrValues instances
        );
        defaultText = lib.options.literalExpression "whether an instance has the back end xpu or such a worker";
        description = "Whether to install Intel's compute driver for the instances.";
      };
      package = mkOption {
        type = types.package;
        default = pkgs.intel-compute-runtime;
        defaultText = lib.options.literalExpression "pkgs.intel-compute-runtime";
        description = ''
          Intel's compute driver: from Tiger Lake on and for Arc. Its output "drivers" holds the
          one for Level Zero, which torch uses; both outputs are installed.
        '';
      };
    };

    instances = mkOption {
      type = types.attrsOf (
        types.submodule [
          instanceModule
          firewall
        ]
      );
      default = { };
      example = lib.options.literalExpression ''
        {
          # One torch cannot use both makers' cards: each card has its own ComfyUI.
          arc = {
            device = "xpu";
            modelsDir = "/srv/models";
          };
          geforce = {
            device = "cuda";
            port = 8189;
            modelsDir = "/srv/models";
          };
        }
      '';
      description = "The ComfyUIs of this machine, by name.";
    };
  };

  config = lib.mkIf cfg.enable {
    assertions = import ./assertions.nix { inherit instances lib; };

    users.users = lib.optionalAttrs (cfg.user == "comfyui-ipex") {
      comfyui-ipex = {
        isSystemUser = true;
        inherit (cfg) group;
        description = "ComfyUI";
      };
    };
    users.groups = lib.optionalAttrs (cfg.group == "comfyui-ipex") { comfyui-ipex = { }; };

    networking.firewall.allowedTCPPorts = map (instance: instance.port) (
      lib.filter (instance: instance.openFirewall) (lib.attrValues instances)
    );

    hardware.graphics = lib.mkIf cfg.graphics.enable {
      enable = true;
      extraPackages = [
        cfg.graphics.package
        cfg.graphics.package.drivers
      ];
    };

    systemd.services = lib.mapAttrs (_: service) units;

    systemd.timers = lib.mapAttrs (_: unit: {
      inherit (unit) description;
      wantedBy = [ "timers.target" ];
      timerConfig = unit.timer;
    }) (lib.filterAttrs (_: unit: unit ? timer) units);

    systemd.tmpfiles.rules = lib.unique (
      lib.concatMap (
        instance:
        [ (directory "0750" instance.dataDir) ]
        ++ lib.optional instance.backup.enable (directory "0700" instance.backup.target)
        # The collector reads there as another user.
        ++ lib.optional (instance.monitoring.enable && instance.monitoring.textfileDir != null) (
          directory "0755" instance.monitoring.textfileDir
        )
      ) (lib.attrValues instances)
    );
  };
}
