# ComfyUI with this extension, a Python for each back end, and three commands.
{
  lib,
  addDriverRunpath,
  callPackage,
  comfyui-ipex-extension,
  comfyui-src,
  linkFarm,
  makeWrapper,
  python313,
  pythons,
  stdenvNoCC,
  writeText,

  # Which torch builds it holds, of "cuda", "xpu" and "cpu". Each is some gigabytes.
  backends ? [ "xpu" ],
  # Packages made by mkCustomNode.
  customNodes ? [ ],
  # A list of { folder = "checkpoints"; name = "model.safetensors"; src = <a file>; }.
  models ? [ ],
  # ps: [ ps.rembg ]
  extraPythonPackages ? _: [ ],
  # Programs that nodes call, such as ffmpeg.
  extraPackages ? [ ],
  # Other Pythons whose devices ComfyUI is to use too, by the name that stands behind the "@" of
  # these: { arc.kind = "xpu"; }. `python` is an interpreter of your own in place of the bundle's.
  workers ? { },
  # Intel's archived extension of PyTorch, in the XPU back end.
  withIpex ? false,
  mainProgram ? "comfyui-ipex",
}:

let
  known = lib.attrNames build;
  unknown = lib.subtractLists known backends;

  again =
    changes:
    callPackage ./comfyui-ipex.nix (
      {
        inherit
          backends
          customNodes
          models
          extraPythonPackages
          extraPackages
          workers
          withIpex
          mainProgram
          ;
      }
      // changes
    );

  kindsOfWorkers = lib.unique (lib.mapAttrsToList (_: worker: worker.kind) workers);
  unknownKinds = lib.subtractLists known kindsOfWorkers;

  # As the devices' names in ComfyUI's menus have it.
  misnamed = lib.filter (name: builtins.match "[a-z][a-z0-9-]{0,31}" name == null) (
    lib.attrNames workers
  );

  nodes = [ comfyui-ipex-extension ] ++ customNodes;

  requirements =
    backend:
    import ../python/requirements.nix {
      withAudio = backend != "xpu";
      withIpex = withIpex && backend == "xpu";
    };

  environment =
    backend:
    pythons.${backend}.withPackages (
      ps:
      map (name: ps.${name}) (requirements backend)
      ++ lib.concatMap (node: node.pythonPackages ps) nodes
      ++ extraPythonPackages ps
    );

  environments = lib.genAttrs backends environment;

  # What stands behind the "+" of torch's version tells what it was built for.
  build = {
    cpu = "cpu";
    cuda = "cu";
    xpu = "xpu";
  };

  modelFarm = linkFarm "comfyui-models" (
    map (model: {
      name = "${model.folder}/${model.name}";
      path = model.src;
    }) models
  );

  # ComfyUI's extra_model_paths file; JSON is YAML. With a base directory it looks for packs there
  # and where this file says, not in its own tree.
  paths = writeText "extra-model-paths.json" (
    builtins.toJSON (
      {
        nodes.custom_nodes = lib.concatMapStringsSep "\n" (
          node: "${node}/share/comfyui/custom_nodes"
        ) nodes;
      }
      // lib.optionalAttrs (models != [ ]) {
        models = lib.listToAttrs (
          map (model: lib.nameValuePair model.folder "${modelFarm}/${model.folder}") models
        );
      }
    )
  );

  description = writeText "bundle.json" (
    builtins.toJSON {
      host = "${comfyui-src}/share/comfyui";
      extension = "${comfyui-ipex-extension}/share/comfyui/custom_nodes/comfyui-ipex";
      inherit paths;
      nodes = map (node: node.folder) nodes;
      backends = lib.mapAttrs (backend: python: {
        python = "${python}/bin/python3";
        torch = "${pythons.${backend}.pkgs.torch.version}+${build.${backend}}";
      }) environments;
      workers = lib.mapAttrs (_: worker: {
        inherit (worker) kind;
        python = toString (
          if worker.python or null == null then
            "${environment worker.kind}/bin/python3"
          else
            worker.python
        );
      }) workers;
    }
  );
in
assert lib.assertMsg (backends != [ ]) "comfyui-ipex: backends is empty";
assert lib.assertMsg (
  unknown == [ ]
) "comfyui-ipex: unknown backends ${toString unknown}; known are ${toString known}";
assert lib.assertMsg (unknownKinds == [ ])
  "comfyui-ipex: unknown kinds of workers ${toString unknownKinds}; known are ${toString known}";
assert lib.assertMsg (misnamed == [ ])
  "comfyui-ipex: a worker's name is of small letters and digits, unlike ${toString misnamed}";
stdenvNoCC.mkDerivation {
  pname = lib.concatStringsSep "-" (
    [ "comfyui" ] ++ backends ++ map (kind: "worker-${kind}") kindsOfWorkers
  );
  inherit (comfyui-ipex-extension) version;

  strictDeps = true;

  nativeBuildInputs = [ makeWrapper ];

  dontUnpack = true;
  dontConfigure = true;
  dontBuild = true;

  # The drivers' libraries are those of the system that it runs on.
  installPhase = ''
    runHook preInstall

    mkdir -p $out/bin $out/share/comfyui-ipex
    ln -s ${description} $out/share/comfyui-ipex/bundle.json
    install -m 644 ${../start/start.py} $out/share/comfyui-ipex/start.py
    install -D -m 644 ${../start/bundle.py} $out/share/comfyui-ipex/nix/start/bundle.py
    for name in comfyui-ipex comfyui-cuda comfyui-xpu; do
      makeWrapper ${python313}/bin/python3 $out/bin/$name \
        --prefix LD_LIBRARY_PATH : ${addDriverRunpath.driverLink}/lib \
        ${
          lib.optionalString (extraPackages != [ ]) "--prefix PATH : ${lib.makeBinPath extraPackages}"
        } \
        --add-flags "-B $out/share/comfyui-ipex/start.py" \
        --add-flags "$out/share/comfyui-ipex/bundle.json" \
        --add-flags "$name"
    done

    runHook postInstall
  '';

  doInstallCheck = true;

  # The help of each command: the launcher, the chosen Python and the patched command line.
  installCheckPhase = ''
    runHook preInstallCheck

    for name in comfyui-ipex ${lib.concatMapStringsSep " " (b: "comfyui-${b}") (
      lib.remove "cpu" backends
    )}; do
      $out/bin/$name --help | grep -e --force-intel-xpu
    done

    runHook postInstallCheck
  '';

  passthru = {
    inherit
      backends
      customNodes
      environments
      models
      workers
      ;

    # Whose cards it can use, in one way or the other.
    kinds = lib.unique (backends ++ kindsOfWorkers);

    withBackends = chosen: again { backends = chosen; };
    withNodes = more: again { customNodes = customNodes ++ more; };
    withModels = more: again { models = models ++ more; };
    withPythonPackages =
      more: again { extraPythonPackages = ps: extraPythonPackages ps ++ more ps; };
    withPackages = more: again { extraPackages = extraPackages ++ more; };
    withWorkers = more: again { workers = workers // more; };
  };

  meta = {
    inherit (comfyui-ipex-extension.meta) description homepage license;
    inherit mainProgram;
    platforms = [ "x86_64-linux" ];
  };
}
