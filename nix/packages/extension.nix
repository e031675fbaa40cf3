# This project's node pack.
{
  lib,
  mkCustomNode,
  source,
}:

let
  project = lib.importTOML ../../pyproject.toml;
in
mkCustomNode {
  pname = "comfyui-ipex-extension";
  inherit (project.project) version;
  folder = "comfyui-ipex";

  src = source {
    name = "comfyui-ipex";
    path = ../..;
    entries = [
      "LICENSE"
      "README.md"
      "__init__.py"
      "batch"
      "benchmarks"
      "example_workflows"
      "ipex_benchmarks.py"
      "launcher"
      "locales"
      "inference"
      "nodes"
      "prestartup_script.py"
      "pyproject.toml"
      "requirements.txt"
      "web"
      "xpu_runtime"
    ];
  };

  pythonPackages = ps: [ ps.controlnet-aux ];

  meta = {
    inherit (project.project) description;
    homepage = project.project.urls.Repository;
    license = lib.licenses.gpl3Plus;
  };
}
