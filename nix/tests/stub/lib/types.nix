{ lib }:

let
  inherit (lib) mkOptionType;
  inherit (lib.modules) merged settled;

  show = lib.concatStringsSep ".";

  mergeEqual =
    location: values:
    if lib.all (value: value == lib.head values) values then
      lib.head values
    else
      throw "The option `${show location}' has conflicting definition values.";

  mergeOne =
    location: values:
    if lib.length values == 1 then
      lib.head values
    else
      throw "The option `${show location}' is defined multiple times while it's expected to be unique.";

  simple =
    name: description: check:
    mkOptionType { inherit name description check; };

  between =
    low: high:
    simple "intBetween" "integer between ${toString low} and ${toString high} (both inclusive)" (
      value: lib.isInt value && value >= low && value <= high
    );
in
rec {
  inherit mergeEqual;

  bool = simple "bool" "boolean" lib.isBool;
  int = simple "int" "signed integer" lib.isInt;
  ints = {
    inherit between;
    positive = simple "positiveInt" "positive integer, meaning >0" (
      value: lib.isInt value && value > 0
    );
    unsigned = simple "unsignedInt" "unsigned integer, meaning >=0" (
      value: lib.isInt value && value >= 0
    );
  };
  port = between 0 65535;
  str = simple "str" "string" lib.isString;
  nonEmptyStr = simple "nonEmptyStr" "non-empty string" (
    value: lib.isString value && lib.match "[ \t\r\n]*" value == null
  );
  strMatching =
    pattern:
    simple "strMatching" "string matching the pattern ${pattern}" (
      value: lib.isString value && lib.match pattern value != null
    );
  path = simple "path" "absolute path" (
    value: lib.hasPrefix "/" "${if lib.isAttrs value then value.outPath or "" else toString value}"
  );
  package = mkOptionType {
    name = "package";
    check = lib.isDerivation;
    merge = mergeOne;
  };
  raw = mkOptionType {
    name = "raw";
    merge = mergeOne;
  };

  enum =
    values:
    simple "enum" "one of ${lib.concatMapStringsSep ", " lib.toJSON values}" (
      value: lib.elem value values
    );

  nullOr =
    type:
    mkOptionType {
      name = "nullOr";
      description = "null or ${type.description}";
      check = value: value == null || type.check value;
      merge =
        location: values:
        if lib.all (value: value == null) values then null else type.merge location values;
    };

  either =
    one: other:
    mkOptionType {
      name = "either";
      description = "${one.description} or ${other.description}";
      check = value: one.check value || other.check value;
      merge =
        location: values:
        if lib.all one.check values then
          one.merge location values
        else if lib.all other.check values then
          other.merge location values
        else
          mergeOne location values;
    };
  oneOf = list: lib.foldl' either (lib.head list) (lib.tail list);

  listOf =
    type:
    mkOptionType {
      name = "listOf";
      description = "list of ${type.description}";
      check = lib.isList;
      merge =
        location: values:
        lib.concatMap (
          value:
          let
            kept = settled [ value ];
          in
          lib.optional (kept != [ ]) (merged (location ++ [ "*" ]) type kept)
        ) (lib.concatLists values);
    };

  attrsOf =
    type:
    mkOptionType {
      name = "attrsOf";
      description = "attribute set of ${type.description}";
      check = lib.isAttrs;
      merge =
        location: values:
        let
          all = lib.zipAttrsWith (_: settled) values;
          kept = lib.filterAttrs (_: found: found != [ ]) all;
        in
        lib.mapAttrs (name: merged (location ++ [ name ]) type) kept;
    };

  functionTo =
    type:
    mkOptionType {
      name = "functionTo";
      description = "function that evaluates to a(n) ${type.description}";
      check = lib.isFunction;
      merge =
        location: values: argument:
        merged (location ++ [ "<function body>" ]) type (map (value: value argument) values);
    };

  submodule =
    module:
    mkOptionType {
      name = "submodule";
      check = value: lib.isAttrs value || lib.isFunction value;
      merge =
        location: values:
        (lib.evalModules {
          modules =
            lib.toList module
            ++ map (value: if lib.isFunction value then value else { config = value; }) values;
          specialArgs.name = lib.last location;
          prefix = location;
        }).config;
    };
}
