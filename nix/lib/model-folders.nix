# ComfyUI's kinds of model files and the folders that it looks in for each, as its folder_paths.py
# has them; the tests compare both. "annotators" is this extension's: weights of preprocessors.
{
  annotators = [ "annotators" ];
  checkpoints = [ "checkpoints" ];
  classifiers = [ "classifiers" ];
  clip_vision = [ "clip_vision" ];
  configs = [ "configs" ];
  controlnet = [
    "controlnet"
    "t2i_adapter"
  ];
  diffusers = [ "diffusers" ];
  diffusion_models = [
    "diffusion_models"
    "unet"
  ];
  embeddings = [ "embeddings" ];
  gligen = [ "gligen" ];
  hypernetworks = [ "hypernetworks" ];
  loras = [ "loras" ];
  photomaker = [ "photomaker" ];
  style_models = [ "style_models" ];
  text_encoders = [
    "text_encoders"
    "clip"
  ];
  upscale_models = [ "upscale_models" ];
  vae = [ "vae" ];
  vae_approx = [ "vae_approx" ];
}
