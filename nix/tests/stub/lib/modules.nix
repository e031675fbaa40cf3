# evalModules: declarations, definitions with mkIf, mkMerge, priorities and order, submodules; and
# the same refusals as nixpkgs has.
{ lib }:

let
  inherit (lib)
    any
    attrNames
    concatMap
    elem
    filter
    head
    isAttrs
    isFunction
    ;

  show = lib.concatStringsSep ".";

  typeOf = value: value._type or "";

  isOption = value: isAttrs value && typeOf value == "option";

  defaultPriority = 100;
  optionDefaultPriority = 1500;
  defaultOrder = 1000;

  # A definition of several options, as definitions of each: conditions and priorities move inwards.
  pushDown =
    value:
    if typeOf value == "merge" then
      concatMap pushDown value.contents
    else if typeOf value == "if" then
      map (lib.mapAttrs (_: content: value // { inherit content; })) (pushDown value.content)
    else if typeOf value == "override" then
      map (lib.mapAttrs (_: content: value // { inherit content; })) (pushDown value.content)
    else
      [ value ];

  # The values of one option's definition, conditions decided.
  discharge =
    value:
    if typeOf value == "merge" then
      concatMap discharge value.contents
    else if typeOf value == "if" then
      if value.condition then discharge value.content else [ ]
    else
      [ value ];

  strongest =
    values:
    let
      priorityOf = value: if typeOf value == "override" then value.priority else defaultPriority;
      best = lib.foldl' (a: b: if b < a then b else a) 9999 (map priorityOf values);
      stripped = value: if typeOf value == "override" then value.content else value;
    in
    map stripped (filter (value: priorityOf value == best) values);

  ordered =
    values:
    let
      orderOf = value: if typeOf value == "order" then value.priority else defaultOrder;
      stripped = value: if typeOf value == "order" then value.content else value;
    in
    map stripped (lib.sort (a: b: orderOf a < orderOf b) values);

  # The values that count, strongest and in order.
  settled = values: ordered (strongest (concatMap discharge values));

  merged =
    location: type: values:
    if values == [ ] then
      throw "The option `${show location}' was accessed but has no value defined. Try setting the option."
    else if lib.all type.check values then
      type.merge location values
    else
      throw "A definition for option `${show location}' is not of type `${type.description}'.";

  # Level by level: modules, what they import, and so on.
  load =
    arguments: modules:
    let
      attributes = map (
        module:
        let
          isFile = builtins.isPath module || builtins.isString module;
          value = if isFile then import module else module;
        in
        if isFunction value then value arguments else value
      ) modules;
      parts = map (
        module:
        let
          whole = module ? options || module ? config;
          rest = removeAttrs module [
            "imports"
            "_file"
            "key"
          ];
        in
        {
          options = module.options or { };
          config = if whole then module.config or { } else rest;
        }
      ) attributes;
    in
    if modules == [ ] then
      [ ]
    else
      parts ++ load arguments (concatMap (module: module.imports or [ ]) attributes);

  tree =
    location: declarations: definitions:
    let
      sets = concatMap pushDown definitions;
      names = lib.unique (concatMap attrNames declarations);
      stray = filter (name: !elem name names) (lib.unique (concatMap attrNames sets));
      entry =
        name:
        let
          here = location ++ [ name ];
          declared = map (set: set.${name}) (filter (set: set ? ${name}) declarations);
          defined = map (set: set.${name}) (filter (set: set ? ${name}) sets);
        in
        if any isOption declared then option here declared defined else tree here declared defined;
    in
    if stray != [ ] then
      throw "The option `${show (location ++ [ (head stray) ])}' does not exist."
    else
      lib.genAttrs names entry;

  option =
    location: declared: defined:
    let
      declaration =
        if lib.length declared == 1 then
          head declared
        else
          throw "The option `${show location}' is declared more than once.";
      byDefault = lib.optional (declaration ? default) (
        mkOverride optionDefaultPriority declaration.default
      );
      value = merged location (declaration.type or lib.types.raw) (settled (defined ++ byDefault));
    in
    if declaration ? apply then declaration.apply value else value;

  mkOverride = priority: content: {
    _type = "override";
    inherit priority content;
  };

  mkOrder = priority: content: {
    _type = "order";
    inherit priority content;
  };
in
{
  inherit
    merged
    mkOrder
    mkOverride
    settled
    ;

  evalModules =
    {
      modules,
      specialArgs ? { },
      prefix ? [ ],
    }:
    let
      loaded = load (specialArgs // { inherit lib config options; }) modules;
      declarations = map (module: module.options) loaded;
      options = lib.foldl' lib.recursiveUpdate { } declarations;
      # Of equal priority, what was loaded last comes first, as in nixpkgs.
      config = tree prefix declarations (map (module: module.config) (lib.reverseList loaded));
    in
    {
      inherit config options;
    };

  mkDefault = mkOverride 1000;
  mkForce = mkOverride 50;
  mkBefore = mkOrder 500;
  mkAfter = mkOrder 1500;
  mkIf = condition: content: {
    _type = "if";
    inherit condition content;
  };
  mkMerge = contents: {
    _type = "merge";
    inherit contents;
  };
  mkOption = declaration: declaration // { _type = "option"; };
  mkOptionType =
    {
      name,
      description ? name,
      check ? _: true,
      merge ? lib.types.mergeEqual,
      ...
    }:
    {
      _type = "option-type";
      inherit
        name
        description
        check
        merge
        ;
    };
  mkEnableOption =
    what:
    lib.mkOption {
      type = lib.types.bool;
      default = false;
      example = true;
      description = "Whether to enable ${what}.";
    };
}
