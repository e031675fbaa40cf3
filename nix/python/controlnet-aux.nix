# The networks of ControlNet preprocessors. Not in nixpkgs.
{
  lib,
  buildPythonPackage,
  fetchPypi,
  pin,

  # build-system
  setuptools,

  # dependencies
  einops,
  filelock,
  huggingface-hub,
  importlib-metadata,
  numpy,
  opencv4,
  pillow,
  scikit-image,
  scipy,
  timm,
  torch,
  torchvision,
}:

buildPythonPackage {
  pname = "controlnet-aux";
  inherit (pin) version;
  pyproject = true;

  src = fetchPypi {
    pname = "controlnet_aux";
    inherit (pin) version hash;
  };

  build-system = [ setuptools ];

  dependencies = [
    einops
    filelock
    huggingface-hub
    importlib-metadata
    numpy
    opencv4
    pillow
    scikit-image
    scipy
    timm
    torch
    torchvision
  ];

  # nixpkgs' OpenCV is the same library under another name.
  pythonRemoveDeps = [ "opencv-python-headless" ];

  # Its tests download weights, and importing it whole asks for mediapipe.
  doCheck = false;

  meta = {
    description = "Networks of ControlNet preprocessors";
    homepage = "https://github.com/huggingface/controlnet_aux";
    license = lib.licenses.asl20;
  };
}
