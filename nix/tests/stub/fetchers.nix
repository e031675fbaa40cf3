# Fetchers that look at what they are asked for. The one tree that is built from lies beside this
# file, where a test has put it; everything else can be named but not built.
{ lib, self }:

let
  pinned =
    hash: value:
    if lib.match "sha256-[A-Za-z0-9+/]{43}=" hash == null then
      throw "${hash} is no hash in SRI form"
    else
      value;

  absent =
    name:
    self.runCommand name { } ''
      echo "${name} is on the network, which tests do not use" >&2
      exit 1
    '';
in
{
  fetchFromGitHub =
    {
      owner,
      repo,
      rev,
      hash,
    }:
    pinned hash (
      if lib.match "[0-9a-f]{40}" rev == null then
        throw "${rev} is no commit"
      else if "${owner}/${repo}" == "comfyanonymous/ComfyUI" && builtins.pathExists ./comfyui then
        builtins.path {
          name = "source";
          path = ./comfyui;
        }
      else
        absent "${owner}-${repo}"
    );

  fetchPypi =
    {
      pname,
      version,
      hash,
      format ? "setuptools",
      dist ? "py2.py3",
      python ? "source",
      abi ? "none",
      platform ? "any",
    }:
    pinned hash (
      absent (
        if format == "wheel" then
          "${pname}-${version}-${python}-${abi}-${platform}.whl"
        else
          "${pname}-${version}.tar.gz"
      )
    );

  fetchurl =
    {
      url,
      hash,
      name ? baseNameOf url,
    }:
    pinned hash (absent name);
}
