# The project's benchmarks, run by a bundle's own Python on its own ComfyUI.
{
  lib,
  comfyui-ipex,
  comfyui-ipex-extension,
  comfyui-src,
  writeShellApplication,
}:

let
  folder = "${comfyui-ipex-extension}/share/comfyui/custom_nodes/comfyui-ipex";
  # Tables and plots; without them it writes JSON and Markdown alone.
  bundle = comfyui-ipex.withPythonPackages (ps: [
    ps.jinja2
    ps.matplotlib
    ps.rich
  ]);
  backend = lib.head bundle.backends;
  python = bundle.environments.${backend};
in
writeShellApplication {
  name = "ipex-benchmarks";

  text = ''
    COMFYUI_DIR="''${COMFYUI_DIR:-${comfyui-src}/share/comfyui}" \
      exec ${python}/bin/python3 -B "${folder}/ipex_benchmarks.py" "$@"
  '';

  meta = {
    description = "Speed, memory and errors of a device, and of comfyui-ipex on it";
    inherit (comfyui-ipex-extension.meta) homepage license;
    platforms = [ "x86_64-linux" ];
  };
}
