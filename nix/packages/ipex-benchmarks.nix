# The project's benchmarks, run by a bundle's own Python on its own ComfyUI.
{
  lib,
  comfyui-ipex,
  comfyui-ipex-extension,
  comfyui-src,
  writeShellApplication,
}:

let
  folder = "${comfyui-ipex-extension}/share/comfyui/custom_nodes/comfyui-ipex/benchmarks";
  backend = lib.head comfyui-ipex.backends;
  python = comfyui-ipex.environments.${backend};
in
writeShellApplication {
  name = "ipex-benchmarks";

  text = ''
    case "''${1:-}" in
      preprocess | upscale) ;;
      *)
        echo "usage: ipex-benchmarks preprocess|upscale [options]" >&2
        exit 2
        ;;
    esac
    name=$1
    shift
    COMFYUI_DIR="''${COMFYUI_DIR:-${comfyui-src}/share/comfyui}" \
      exec ${python}/bin/python3 -B "${folder}/$name.py" "$@"
  '';

  meta = {
    description = "Speed of comfyui-ipex against ComfyUI's own nodes, as ratios";
    inherit (comfyui-ipex-extension.meta) homepage license;
    platforms = [ "x86_64-linux" ];
  };
}
