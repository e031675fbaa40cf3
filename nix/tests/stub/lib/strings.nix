{ lib }:

rec {
  inherit (builtins) concatStringsSep replaceStrings substring;

  concatMapStringsSep =
    separator: f: list:
    concatStringsSep separator (map f list);
  concatMapStrings = concatMapStringsSep "";
  optionalString = condition: text: if condition then text else "";
  hasPrefix = prefix: text: substring 0 (lib.stringLength prefix) text == prefix;
  hasSuffix =
    suffix: text:
    let
      long = lib.stringLength text - lib.stringLength suffix;
    in
    long >= 0 && substring long (-1) text == suffix;
  hasInfix = infix: text: lib.length (splitString infix text) > 1;
  removePrefix =
    prefix: text:
    if hasPrefix prefix text then substring (lib.stringLength prefix) (-1) text else text;
  removeSuffix =
    suffix: text:
    if hasSuffix suffix text then
      substring 0 (lib.stringLength text - lib.stringLength suffix) text
    else
      text;
  splitString =
    separator: text:
    lib.filter lib.isString (builtins.split (replaceStrings [ "." ] [ "\\." ] separator) text);
  escapeShellArg = value: "'${replaceStrings [ "'" ] [ "'\\''" ] (toString value)}'";
  makeSearchPath =
    folder: packages:
    concatMapStringsSep ":" (package: "${package}/${folder}") packages;
  makeBinPath = makeSearchPath "bin";
}
