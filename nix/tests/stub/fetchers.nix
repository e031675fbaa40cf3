# Fetchers that look at what they are asked for. ComfyUI's tree and small wheels lie beside this file,
# where a test has put them; everything else can be named but not built.
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
    let
      wheel = "${pname}-${version}-${python}-${abi}-${platform}.whl";
      file = if format == "wheel" then wheel else "${pname}-${version}.tar.gz";
      here = ./wheels + "/${file}";
    in
    assert dist == "py2.py3" || dist == python;
    pinned hash (if builtins.pathExists here then here else absent file);

  fetchurl =
    {
      url,
      hash,
      name ? baseNameOf url,
    }:
    pinned hash (absent name);
}
