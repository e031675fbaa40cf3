# What options alone cannot refuse. `instances` are those that are enabled.
{ lib, instances }:

let
  perInstance = check: lib.mapAttrsToList check instances;

  loopback = address: address == "localhost" || address == "::1" || lib.hasPrefix "127." address;

  clashes = lib.concatLists (
    lib.mapAttrsToList (
      name: instance:
      map (other: "${name} and ${other} both use port ${toString instance.port}") (
        lib.filter (other: name < other && instances.${other}.port == instance.port) (
          lib.attrNames instances
        )
      )
    ) instances
  );

  sharedFolders = lib.concatLists (
    lib.mapAttrsToList (
      name: instance:
      map (other: "${name} and ${other} both use ${toString instance.dataDir}") (
        lib.filter (
          other: name < other && toString instances.${other}.dataDir == toString instance.dataDir
        ) (lib.attrNames instances)
      )
    ) instances
  );

  backedUp = lib.filterAttrs (_: instance: instance.backup.enable) instances;

  # An archive has the name of the folder that it saves, and old ones are deleted by that name.
  archive =
    instance: "${toString instance.backup.target}/${baseNameOf (toString instance.dataDir)}";

  sharedArchives = lib.concatLists (
    lib.mapAttrsToList (
      name: instance:
      map (other: "${name} and ${other} both save to ${archive instance}-*") (
        lib.filter (other: name < other && archive backedUp.${other} == archive instance) (
          lib.attrNames backedUp
        )
      )
    ) backedUp
  );
in
[
  {
    assertion = sharedArchives == [ ];
    message = "services.comfyui-ipex: ${lib.concatStringsSep "; " sharedArchives}. Give each its own backup.target.";
  }
  {
    assertion = clashes == [ ];
    message = "services.comfyui-ipex: ${lib.concatStringsSep "; " clashes}. Give each its own port.";
  }
  {
    assertion = sharedFolders == [ ];
    message = "services.comfyui-ipex: ${lib.concatStringsSep "; " sharedFolders}. Share models with modelsDir instead.";
  }
]
++ perInstance (
  name: instance: {
    assertion = lib.all loopback instance.listen || instance.acceptRemote;
    message = "services.comfyui-ipex.instances.${name} listens on ${toString instance.listen}, and ComfyUI knows no users: set openFirewall or acceptRemote if other machines are meant to reach it.";
  }
)
++ perInstance (
  name: instance: {
    assertion =
      instance.device == "auto"
      || instance.device == "cpu"
      || lib.elem instance.device instance.backends;
    message = "services.comfyui-ipex.instances.${name} is to run on ${instance.device}, which is not among its backends (${toString instance.backends}).";
  }
)
++ perInstance (
  name: instance: {
    assertion = instance.deviceIndex == null || instance.device == "cuda" || instance.device == "xpu";
    message = "services.comfyui-ipex.instances.${name} has a deviceIndex, which needs device = \"cuda\" or \"xpu\".";
  }
)
++ perInstance (
  name: instance: {
    assertion = instance.listen != [ ];
    message = "services.comfyui-ipex.instances.${name} listens nowhere.";
  }
)
