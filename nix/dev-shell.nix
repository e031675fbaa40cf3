# What ./test, the formatters and the linters need.
{
  deadnix,
  git,
  mkShell,
  nixfmt,
  python313,
  ruff,
  statix,
  uv,
}:

mkShell {
  packages = [
    deadnix
    git
    nixfmt
    python313
    ruff
    statix
    uv
  ];
}
