{ pkgs, modules, ... }: { config = { }; }
