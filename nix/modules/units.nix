# The units of one instance, before NixOS or Home Manager gives them its own form:
# suffix -> { description, service, environment, network, timer, onFailure }.
{
  lib,
  pkgs,
  # How to speak to the service manager: [ "systemctl" ... ].
  systemctl,
}:

unit: instance:

let
  hardening = import ../lib/hardening.nix;
  folders = import ../lib/model-folders.nix;
  inherit (import ../lib/systemd.nix { inherit lib; }) command;

  python = "${pkgs.python313}/bin/python3";

  program =
    file: arguments:
    command (
      [
        python
        "-I"
        "-B"
        "${file}"
      ]
      ++ arguments
    );

  # ComfyUI's extra_model_paths file; JSON is YAML.
  sharedModels = pkgs.writeText "${unit}-models.json" (
    builtins.toJSON {
      shared = lib.mapAttrs (_: lib.concatStringsSep "\n") folders // {
        base_path = instance.modelsDir;
      };
    }
  );

  flags = [
    "--base-directory=${instance.dataDir}"
    "--listen=${lib.concatStringsSep "," instance.listen}"
    "--port=${toString instance.port}"
    "--disable-auto-launch"
  ]
  ++ lib.optional (instance.vram != "auto") "--${instance.vram}vram"
  ++ lib.optional (instance.modelsDir != null) "--extra-model-paths-config=${sharedModels}"
  ++ instance.extraFlags;

  device =
    instance.device
    + lib.optionalString (instance.deviceIndex != null) ":${toString instance.deviceIndex}";

  # A server that listens everywhere is asked on the loopback interface.
  wildcards = {
    "0.0.0.0" = "127.0.0.1";
    "::" = "::1";
  };
  address = lib.head instance.listen;
  host = wildcards.${address} or address;
  bracketed = if lib.hasInfix ":" host then "[${host}]" else host;

  inherit (instance) backup cleanup monitoring;
in
{
  "" = {
    description = "ComfyUI (${unit})";
    network = true;
    environment = {
      COMFYUI_IPEX_DEVICE = device;
      HF_HOME = "${instance.dataDir}/.cache/huggingface";
      HOME = toString instance.dataDir;
      XDG_CACHE_HOME = "${instance.dataDir}/.cache";
    }
    // instance.environment;
    service =
      hardening.server
      // {
        ExecStart = command ([ "${instance.finalPackage}/bin/comfyui-ipex" ] ++ flags);
        Restart = "on-failure";
        RestartSec = 5;
        WorkingDirectory = toString instance.dataDir;
        BindPaths = [ (toString instance.dataDir) ];
      }
      // lib.optionalAttrs (instance.modelsDir != null) {
        BindReadOnlyPaths = [ (toString instance.modelsDir) ];
      }
      // lib.optionalAttrs (instance.environmentFile != null) {
        EnvironmentFile = instance.environmentFile;
      }
      // instance.serviceConfig;
  };
}
// lib.optionalAttrs cleanup.enable {
  "-cleanup" = {
    description = "Old files of ${unit}";
    service = hardening.files // {
      Type = "oneshot";
      ExecStart = program ../service/cleanup.py (
        [
          "--days=${toString cleanup.keepDays}"
          (toString instance.dataDir)
        ]
        ++ cleanup.folders
      );
      BindPaths = [ (toString instance.dataDir) ];
    };
    timer = {
      OnCalendar = cleanup.dates;
      Persistent = true;
      RandomizedDelaySec = "15min";
    };
  };
}
// lib.optionalAttrs backup.enable {
  "-backup" = {
    description = "Backup of ${unit}";
    service = hardening.files // {
      Type = "oneshot";
      ExecStart = program ../service/backup.py (
        [
          "--keep=${toString backup.keep}"
          "--target=${toString backup.target}"
          (toString instance.dataDir)
        ]
        ++ backup.folders
      );
      BindReadOnlyPaths = [ (toString instance.dataDir) ];
      BindPaths = [ (toString backup.target) ];
    };
    timer = {
      OnCalendar = backup.dates;
      Persistent = true;
      RandomizedDelaySec = "15min";
    };
  };
}
// lib.optionalAttrs monitoring.enable (
  {
    "-monitor" = {
      description = "State of ${unit}";
      onFailure = lib.optional (monitoring.restartAfter > 0) "${unit}-restart.service";
      service =
        hardening.probe
        // {
          Type = "oneshot";
          # Failures in a row are counted in a file there.
          RuntimeDirectory = "${unit}-monitor";
          RuntimeDirectoryPreserve = true;
          ExecStart = program ../service/monitor.py (
            [
              "--instance=${unit}"
              "--url=http://${bracketed}:${toString instance.port}"
              "--restart-after=${toString monitoring.restartAfter}"
            ]
            ++ lib.optional (monitoring.textfileDir != null) "--textfiles=${toString monitoring.textfileDir}"
          );
        }
        // lib.optionalAttrs (host != "127.0.0.1" && host != "::1") { IPAddressAllow = host; }
        // lib.optionalAttrs (monitoring.textfileDir != null) {
          BindPaths = [ (toString monitoring.textfileDir) ];
        };
      timer = {
        # A server needs a while until it answers.
        OnActiveSec = "5min";
        OnUnitActiveSec = monitoring.interval;
      };
    };
  }
  // lib.optionalAttrs (monitoring.restartAfter > 0) {
    "-restart" = {
      description = "Restart of ${unit}, which did not answer";
      privileged = true;
      service = hardening.control // {
        Type = "oneshot";
        ExecStart = command (
          systemctl
          ++ [
            "try-restart"
            "${unit}.service"
          ]
        );
      };
    };
  }
)
