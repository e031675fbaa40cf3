# What ./test, the formatters and the linters need.
{
  deadnix,
  git,
  mkShell,
  nixfmt-rfc-style,
  python313,
  ruff,
  statix,
  uv,
}:

mkShell {
  packages = [
    deadnix
    git
    nixfmt-rfc-style
    python313
    ruff
    statix
    uv
  ];
}
