# The options of one ComfyUI. NixOS and Home Manager share them; where their defaults differ, they
# hand these in.
{
  lib,
  pkgs,
  # This project's packages (nix/packages).
  packages,
  # name -> folder
  defaultDataDir,
  defaultBackupTarget,
  # The same two, for the manual.
  dataDirText,
  backupTargetText,
}:

{ config, name, ... }:

let
  inherit (lib) mkEnableOption mkOption types;
  inherit (lib.options) literalExpression;

  unitValue =
    let
      atom = types.oneOf [
        types.bool
        types.int
        types.str
        types.path
      ];
    in
    types.either atom (types.listOf atom);

  model =
    { config, ... }:
    {
      options = {
        folder = mkOption {
          type = types.enum (lib.attrNames (import ../lib/model-folders.nix));
          example = "checkpoints";
          description = "ComfyUI's kind of model, which is the name of its folder.";
        };
        url = mkOption {
          type = types.nullOr types.str;
          default = null;
          description = "Where the file is fetched from. Not needed where {option}`src` is set.";
        };
        hash = mkOption {
          type = types.nullOr types.str;
          default = null;
          example = "sha256-...";
          description = "The file's hash in SRI form. Not needed where {option}`src` is set.";
        };
        src = mkOption {
          type = types.path;
          default = pkgs.fetchurl { inherit (config) url hash; };
          defaultText = literalExpression "pkgs.fetchurl { inherit url hash; }";
          description = "The file itself.";
        };
      };
    };
in
{
  options = {
    enable = mkOption {
      type = types.bool;
      default = true;
      description = "Whether to run this instance.";
    };

    package = mkOption {
      type = types.package;
      default = packages.comfyui-ipex;
      defaultText = literalExpression "pkgs.comfyui-ipex";
      description = ''
        The bundle to run. Back ends, node packs, models and Python packages of the options below
        are added to it.
      '';
    };

    backends = mkOption {
      type = types.listOf (
        types.enum [
          "cpu"
          "cuda"
          "xpu"
        ]
      );
      default = if config.device == "auto" then config.package.backends else [ config.device ];
      defaultText = literalExpression ''if device == "auto" then package.backends else [ device ]'';
      example = [
        "cuda"
        "xpu"
      ];
      description = ''
        The builds of torch that the instance holds. One torch cannot use both makers' cards, and
        each build takes some gigabytes.
      '';
    };

    finalPackage = mkOption {
      type = types.package;
      readOnly = true;
      internal = true;
      description = "The bundle that runs, with everything that the options add.";
    };

    device = mkOption {
      type = types.enum [
        "auto"
        "cpu"
        "cuda"
        "xpu"
      ];
      default = "auto";
      description = ''
        The device to run on. "auto" takes an NVIDIA card (CUDA), else an Intel GPU (XPU), else the
        CPU, of those that {option}`backends` can use. A device that is named and absent is an
        error.
      '';
    };

    deviceIndex = mkOption {
      type = types.nullOr types.ints.unsigned;
      default = null;
      example = 1;
      description = "Which card of that kind, counted from 0. The first, if null.";
    };

    vram = mkOption {
      type = types.enum [
        "auto"
        "high"
        "low"
        "no"
        "normal"
      ];
      default = "auto";
      description = "How ComfyUI deals with the card's memory (`--highvram` and so on).";
    };

    listen = mkOption {
      type = types.listOf types.nonEmptyStr;
      default = [ "127.0.0.1" ];
      example = [
        "127.0.0.1"
        "::1"
      ];
      description = "The addresses to listen on.";
    };

    port = mkOption {
      type = types.port;
      default = 8188;
      description = "The TCP port to listen on. Each instance needs its own.";
    };

    acceptRemote = mkOption {
      type = types.bool;
      default = config.openFirewall or false;
      defaultText = literalExpression "openFirewall";
      description = ''
        Whether it is meant that other machines can reach this instance. ComfyUI knows no users:
        whoever reaches it runs workflows and reads every picture.
      '';
    };

    dataDir = mkOption {
      type = types.path;
      default = defaultDataDir name;
      defaultText = dataDirText;
      description = "ComfyUI's base directory: models, input, output, user, custom_nodes.";
    };

    modelsDir = mkOption {
      type = types.nullOr types.path;
      default = null;
      example = "/srv/models";
      description = ''
        A folder of models that instances share, with ComfyUI's subfolders. It is read, never
        written: what nodes download goes to {option}`dataDir`.
      '';
    };

    models = mkOption {
      type = types.attrsOf (types.submodule model);
      default = { };
      example = literalExpression ''
        {
          "4x-model.safetensors" = {
            folder = "upscale_models";
            url = "https://example.org/4x-model.safetensors";
            hash = "sha256-...";
          };
        }
      '';
      description = "Model files by name, from the Nix store.";
    };

    customNodes = mkOption {
      type = types.attrsOf types.package;
      default = { };
      example = literalExpression "{ rembg = pkgs.comfyuiIpexPackages.mkCustomNode { ... }; }";
      description = ''
        Node packs made by `mkCustomNode`. They are read from the store; packs that you put into
        {option}`dataDir` yourself stay beside them, and nothing there is touched.
      '';
    };

    extraPythonPackages = mkOption {
      type = types.functionTo (types.listOf types.package);
      default = _: [ ];
      defaultText = literalExpression "ps: [ ]";
      example = literalExpression "ps: [ ps.rembg ]";
      description = "Python packages beyond those that ComfyUI and the node packs ask for.";
    };

    extraPackages = mkOption {
      type = types.listOf types.package;
      default = [ ];
      example = literalExpression "[ pkgs.ffmpeg pkgs.gcc ]";
      description = "Programs that nodes call. torch.compile needs a C compiler.";
    };

    workers = mkOption {
      type = types.attrsOf (types.submodule ./worker.nix);
      default = { };
      example = literalExpression ''{ arc.kind = "xpu"; }'';
      description = ''
        Other Pythons whose devices this ComfyUI is to use too, by the name that stands behind the
        "@" of these devices. So one ComfyUI uses the cards of two makers. A worker is a process of
        the same unit; {option}`environment.COMFYUI_IPEX_WORKERS` replaces what is said here.
      '';
    };

    extraFlags = mkOption {
      type = types.listOf types.str;
      default = [ ];
      example = [ "--preview-method=auto" ];
      description = "More arguments for ComfyUI. They come last, so they win.";
    };

    environment = mkOption {
      type = types.attrsOf types.str;
      default = { };
      example = {
        COMFYUI_IPEX_DOWNLOAD = "off";
      };
      description = "Environment variables of the server.";
    };

    environmentFile = mkOption {
      type = types.nullOr types.str;
      default = null;
      example = "/run/secrets/comfyui.env";
      description = "A file of environment variables that must not be in the store, such as tokens.";
    };

    serviceConfig = mkOption {
      type = types.attrsOf unitValue;
      default = { };
      example = {
        MemoryMax = "48G";
      };
      description = "More settings for the server's unit; they replace those of this module.";
    };

    cleanup = {
      enable = mkEnableOption "a timer that deletes old files";
      dates = mkOption {
        type = types.str;
        default = "weekly";
        description = "When, as {manpage}`systemd.time(7)` says.";
      };
      keepDays = mkOption {
        type = types.ints.positive;
        default = 30;
        description = "Files that were not changed for this many days are deleted.";
      };
      folders = mkOption {
        type = types.listOf (types.strMatching "[A-Za-z0-9_-]+");
        default = [ "temp" ];
        example = [
          "temp"
          "output"
        ];
        description = "The folders of {option}`dataDir` that are cleaned.";
      };
    };

    backup = {
      enable = mkEnableOption "a timer that saves workflows, settings and the database";
      dates = mkOption {
        type = types.str;
        default = "daily";
        description = "When, as {manpage}`systemd.time(7)` says.";
      };
      target = mkOption {
        type = types.path;
        default = defaultBackupTarget name;
        defaultText = backupTargetText;
        description = "The folder that holds the archives.";
      };
      keep = mkOption {
        type = types.ints.positive;
        default = 7;
        description = "How many archives are kept.";
      };
      folders = mkOption {
        type = types.listOf (types.strMatching "[A-Za-z0-9_-]+");
        default = [ "user" ];
        example = [
          "user"
          "output"
        ];
        description = "The folders of {option}`dataDir` that are saved.";
      };
    };

    monitoring = {
      enable = mkEnableOption "a timer that asks the server for its state";
      interval = mkOption {
        type = types.str;
        default = "1min";
        description = "How often, as {manpage}`systemd.time(7)` says.";
      };
      textfileDir = mkOption {
        type = types.nullOr types.path;
        default = null;
        example = "/var/lib/node-exporter-text";
        description = "A folder for node_exporter's textfile collector; none is written if null.";
      };
      restartAfter = mkOption {
        type = types.ints.unsigned;
        default = 3;
        description = "After how many failures in a row the server is restarted; 0 means never.";
      };
    };
  };

  config.finalPackage =
    lib.foldl' (package: change: change package) (config.package.withBackends config.backends)
      [
        (package: package.withNodes (lib.attrValues config.customNodes))
        (
          package:
          package.withModels (
            lib.mapAttrsToList (file: model: {
              inherit (model) folder src;
              name = file;
            }) config.models
          )
        )
        (package: package.withPythonPackages config.extraPythonPackages)
        (package: package.withPackages config.extraPackages)
        (package: package.withWorkers config.workers)
      ];
}
