{ lib }:

{
  # A command line for ExecStart=: each argument quoted, with neither specifiers nor variables.
  command = lib.concatMapStringsSep " " (
    argument:
    builtins.replaceStrings
      [
        "%"
        "$"
      ]
      [
        "%%"
        "$$"
      ]
      (builtins.toJSON argument)
  );
}
